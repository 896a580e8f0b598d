"""Pictures that are tiny, or much larger than any training looks at."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted

_TINY = 32
_LARGE = 2048
"""Of the shorter side. Trainings look at 224 to 640 pixels, and a scale jitter at twice that."""


def dimensions(examined: Examined) -> Iterator[Finding]:
    """Pictures whose shorter side is far from what a training uses."""
    shorter = {
        i: min(header.height, header.width)
        for i in examined.readable()
        if (header := examined.facts[i].picture.header) is not None
    }
    if tiny := [i for i, side in shorter.items() if side < _TINY]:
        side = min(shorter[i] for i in tiny)
        yield Finding(
            "tiny-pictures",
            "warning",
            f"{counted(len(tiny), 'picture')} with a side of less than {_TINY} pixels; the shortest has {side}.",
            "They show hardly anything when enlarged. Are they thumbnails? Take the originals.",
            examined.names(tiny),
        )
    if large := [i for i, side in shorter.items() if side > _LARGE]:
        yield Finding(
            "large-pictures",
            "note",
            f"{counted(len(large), 'picture')} with more than {_LARGE:,} pixels on the shorter side.",
            "Decoding them takes most of a training's time. A copy scaled to 1,024 pixels trains as well.",
            examined.names(large),
        )
