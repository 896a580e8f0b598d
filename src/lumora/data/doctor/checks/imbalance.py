"""Classes that are much rarer than others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lumora.data.doctor.checks.label_variants import spellings
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import listed

_TIMES = 10
"""From this ratio of the commonest class to the rarest, accuracy says little."""
_FEW = 10
_RARE = 0.001


def imbalance(examined: Examined) -> Iterator[Finding]:
    """Classes with few pictures, or with a thousandth of the pixels."""
    usual = spellings(examined)
    counts: Counter[str] = Counter()
    for of in examined.counts.values():
        for name, count in of.items():
            counts[usual.get(name, name)] += count
    if len(counts) < 2:
        return
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many >= _TIMES * few:
        yield Finding(
            "imbalance",
            "warning",
            f"{most!r} is in {many:,} pictures, {least!r} in {few:,}.",
            "Add pictures of the rare classes, and look at the macro F1 or mean IoU instead of the accuracy.",
        )
    if rare := [name for name, count in counts.items() if count < _FEW]:
        yield Finding(
            "few-pictures",
            "note",
            f"{listed(sorted(rare))}: fewer than {_FEW} pictures each.",
            "Add pictures: so few can hardly be learnt, and what is measured on them is mostly chance.",
        )
    yield from _rare_pixels(examined)


def _rare_pixels(examined: Examined) -> Iterator[Finding]:
    if examined.labels is None or not examined.meanings:
        return
    pixels: Counter[int] = Counter()
    for meaning in examined.meanings.values():
        pixels.update(meaning.ids)
    total = sum(pixels.values())
    if rare := [examined.labels.names[i] for i, count in sorted(pixels.items()) if count < _RARE * total]:
        yield Finding(
            "rare-pixels",
            "note",
            f"{listed(rare)}: less than {_RARE:.1%} of the labelled pixels each.",
            "Add pictures that show them, or weight the classes in the loss.",
        )
