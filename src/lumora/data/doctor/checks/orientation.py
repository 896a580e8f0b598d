"""EXIF orientation that a mask does not follow."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted


def orientation(examined: Examined) -> Iterator[Finding]:
    """Masks as large as the picture is stored, where EXIF turns the picture and nothing turns the mask."""
    found: list[int] = []
    unsure: list[int] = []
    for i, mask in examined.masks():
        picture = examined.facts[i].picture.header
        if picture is None or mask.header is None or picture.orientation == 1 or mask.header.orientation != 1:
            continue
        if (mask.header.height, mask.header.width) != (picture.height, picture.width):
            continue
        (unsure if picture.shown == (picture.height, picture.width) else found).append(i)
    if found:
        yield Finding(
            "orientation",
            "warning",
            f"{counted(len(found), 'picture')} turned by EXIF with a mask that is not: drawn by a program that does "
            "not know EXIF.",
            "Lumora turns these masks as their pictures; other programs will not. --fix turns the pixels of both.",
            examined.mask_names(found),
        )
    if unsure:
        yield Finding(
            "orientation",
            "warning",
            f"{counted(len(unsure), 'picture')} turned by EXIF without a change of size: whether the mask is to be "
            "turned as well cannot be told.",
            "Lumora turns them as their pictures. Look at a few; if they are upright already, turn the pictures for "
            "good and drop EXIF.",
            examined.mask_names(unsure),
        )
