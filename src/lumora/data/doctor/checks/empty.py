"""Pictures and masks that show nothing."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted


def empty(examined: Examined) -> Iterator[Finding]:
    """Pictures of one colour, and masks in which nothing counts."""
    if plain := [i for i in examined.readable() if examined.facts[i].picture.one_colour]:
        yield Finding(
            "empty-pictures",
            "warning",
            f"{counted(len(plain), 'picture')} of one colour, which show nothing.",
            "Take them away; a camera or an export failed.",
            examined.names(plain),
        )
    if nothing := [i for i, meaning in examined.meanings.items() if not meaning.ids and not meaning.unknown]:
        yield Finding(
            "empty-masks",
            "warning",
            f"{counted(len(nothing), 'mask')} in which no pixel counts.",
            "Nothing is learnt from them; draw them, or take them away.",
            examined.mask_names(nothing),
        )
