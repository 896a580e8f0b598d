"""Files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.facts import Problem
from lumora.data.doctor.report import Finding

_WORDS = {
    "empty-file": ("has 0 bytes", "have 0 bytes", "Copy or download again, or leave out (--fix does)."),
    "unreadable": (
        "is damaged, cut off or no picture",
        "are damaged, cut off or no pictures",
        "Copy or download again, or leave out (--fix does).",
    ),
    "too-large": (
        "has more pixels than the limit",
        "have more pixels than the limit",
        "Scale down or cut into tiles, or raise the limit: Limits(pixels=…).",
    ),
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
        one, many, advice = _WORDS[kind]
        text = files[0][1].text if len(files) == 1 and kind != "empty-file" else ""
        said = text or (f"A file {one}." if len(files) == 1 else f"{len(files):,} files {many}.")
        yield Finding(kind, "error", said, advice, tuple(name for name, _ in files))
