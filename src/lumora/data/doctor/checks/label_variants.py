"""One class under several spellings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding


def label_variants(examined: Examined) -> Iterator[Finding]:
    """Labels that differ in case, spaces, plural or in how their letters are encoded."""
    renamed = spellings(examined)
    groups: dict[str, list[str]] = {}
    for variant, usual in renamed.items():
        groups.setdefault(usual, []).append(variant)
    for usual, variants in groups.items():
        words = ", ".join(_visible(variant, usual) for variant in variants)
        files = [i for i, record in enumerate(examined.data.records) if set(record.labels) & set(variants)]
        yield Finding(
            "label-variants",
            "warning",
            f"{words} may be the same class as {usual!r}.",
            "Use one spelling; --fix takes the commonest.",
            examined.names(files),
        )
    for paths in examined.data.twins:
        yield Finding(
            "name-twins",
            "error",
            f"{len(paths)} names look alike, {paths[0]!r}, but are written in other characters (é as one, and as e "
            "with an accent): only one of them is read.",
            "Put them together under one name; --fix does.",
            paths,
        )


def spellings(examined: Examined) -> Mapping[str, str]:
    """For each spelling that is not the commonest of its class, the commonest."""
    counts: Counter[str] = Counter()
    for record in examined.data.records:
        counts.update(record.labels)
    if examined.data.task == "segmentation" and examined.labels is not None:
        counts.update(examined.labels.names)
    groups: dict[str, list[str]] = {}
    for name in counts:
        groups.setdefault(plain(name), []).append(name)
    found: dict[str, str] = {}
    for names in groups.values():
        # Of equally common ones, the one in composed letters and that comes first.
        usual = min(names, key=lambda name: (-counts[name], not unicodedata.is_normalized("NFC", name), name))
        found |= {name: usual for name in sorted(names) if name != usual}
    return found


def plain(name: str) -> str:
    """What is left of a name without case, spaces and plural.

    >>> plain("Traffic_Lights"), plain("berries"), plain("glass")
    ('traffic light', 'berry', 'glass')
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    text = re.sub(r"[\s_-]+", " ", text).strip()
    if re.search(r"\D{3}$", text) is None:
        return text
    if text.endswith("ies"):
        return text[:-3] + "y"
    if re.search(r"(x|ch|sh)es$", text):
        return text[:-2]
    return text[:-1] if re.search(r"[^sui]s$", text) else text


def _visible(variant: str, usual: str) -> str:
    if unicodedata.normalize("NFC", variant) == unicodedata.normalize("NFC", usual):
        return f"{variant!a} (other characters that look the same)"
    return repr(variant)
