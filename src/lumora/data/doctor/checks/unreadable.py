"""Files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.facts import Problem
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted

_WORDS = {
    "empty-file": ("with 0 bytes", "Copy or download again; --fix leaves such files out."),
    "unreadable": ("damaged, cut off or no picture", "Copy or download again; --fix leaves such files out."),
    "too-large": ("with more pixels than the limit", "--fix leaves such files out."),
}


def unreadable(examined: Examined) -> Iterator[Finding]:
    """Pictures and masks that are empty, damaged, cut off, no pictures at all, or too large to be decoded."""
    found: dict[str, list[tuple[str, Problem]]] = {kind: [] for kind in _WORDS}
    for i, facts in enumerate(examined.facts):
        if facts.picture.problem is not None:
            found[facts.picture.problem.kind].append((examined.name(i), facts.picture.problem))
        if facts.mask is not None and facts.mask.problem is not None:
            found[facts.mask.problem.kind].append((examined.mask_name(i), facts.mask.problem))
    for kind, files in found.items():
        if not files:
            continue
        words, advice = _WORDS[kind]
        first = "" if kind == "empty-file" else f" {'It' if len(files) == 1 else 'The first'}: {files[0][1].text}"
        found_words = f"{counted(len(files), 'file')} {words}.{first}"
        yield Finding(kind, "error", found_words, advice, tuple(name for name, _ in files))
