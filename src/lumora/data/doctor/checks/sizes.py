"""Masks that do not cover their pictures."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted


def sizes(examined: Examined) -> Iterator[Finding]:
    """Masks of another size than their picture's, as a training would read both."""
    wrong: list[int] = []
    words = ""
    for i, mask in examined.masks():
        picture = examined.facts[i].picture.header
        if picture is None or mask.header is None or fits(examined, i):
            continue
        if not wrong:
            (height, width), (wanted_height, wanted_width) = mask.header.shown, picture.shown
            words = f"{width} x {height} for a picture of {wanted_width} x {wanted_height}"
        wrong.append(i)
    if wrong:
        yield Finding(
            "mask-size",
            "error",
            f"{counted(len(wrong), 'mask')} of another size than the picture; the first is {words}.",
            "Is it another picture's mask? If one of the two was scaled, scale the other alike, masks without "
            "smoothing.",
            examined.mask_names(wrong),
        )


def fits(examined: Examined, index: int) -> bool:
    """Whether a record's mask covers its picture, turned as the picture is or upright."""
    facts = examined.facts[index]
    if facts.mask is None or facts.mask.header is None or facts.picture.header is None:
        return True
    mask, picture = facts.mask.header, facts.picture.header
    turned_alike = mask.orientation == 1 and (mask.height, mask.width) == (picture.height, picture.width)
    return turned_alike or mask.shown == picture.shown
