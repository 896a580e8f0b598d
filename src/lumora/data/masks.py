"""From the values in a mask file to the ids of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lumora.data.labels import IGNORE, Colour, Labels, ignore_of, listed
from lumora.errors import MaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NOWHERE = -1
"""In `Coding.values` and `Coding.colours`: this value counts nowhere."""


@dataclass(frozen=True)
class Coding:
    """What the values in mask files mean.

    A mask in grey or with a palette holds numbers, which are ids unless `values` says otherwise; one in RGB holds
    colours, which `colours` translates. A mask with a palette is read by the palette's colours where these are known
    classes and the numbers would say something else: many programs number the colours of each file anew.
    """

    labels: Labels
    ignore: tuple[int, ...] = (IGNORE,)
    """Numbers that count nowhere. `IGNORE` alone means `Labels.ignore` where it is the number of a class itself."""
    reduce: bool = False
    """Whether 0 counts nowhere and every other number is one more than the class's id, as in ADE20K."""
    values: Mapping[int, int] | None = None
    """The id of each number in the files, where these are not the ids."""
    colours: Mapping[Colour, int] | None = None
    """The id of each colour in the files."""

    def __post_init__(self) -> None:
        if self.ignore == (IGNORE,) and self.values is None:
            object.__setattr__(self, "ignore", (ignore_of(len(self.labels) + self.reduce),))

    def ids_of_numbers(self, numbers: Array, name: str) -> Array:
        """The ids of an array (H, W) of numbers; `name` is for messages."""
        seen, places = _unique(numbers)
        ids = np.array([self._id(int(number)) for number in seen], dtype=np.int64)
        return self._checked(ids, seen, places, name)

    def ids_of_colours(self, pixels: Array, name: str) -> Array:
        """The ids of an array (H, W, 3) of colours."""
        packed = _packed(pixels)
        seen, places = _unique(packed)
        if self.colours is None:
            if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2]):
                return self.ids_of_numbers(pixels[..., 0], name)
            raise MaskError(
                f"{name} is a colour picture and not numbers, and what its colours mean is not known: it has "
                f"{_colours(seen)}. Give labels with colours (labels='classes.csv' with columns name, r, g, b)."
            )
        table = self.colours
        ids = np.array([table.get(_unpacked(int(colour)), -2) for colour in seen], dtype=np.int64)
        if (ids == -2).any():
            raise MaskError(
                f"{name} has colours that belong to no label: {_colours(seen[ids == -2])}. Add them to the label list "
                "(or as ignored), or draw the mask without smoothed edges."
            )
        return self._result(ids, places)

    def ids_of_palette(self, numbers: Array, palette: Array, name: str) -> Array:
        """The ids of numbers (H, W) that stand for the colours (256, 3) of a palette."""
        if self.colours is not None:
            used = np.unique(numbers)
            used = used[used < len(palette)]
            by_colour = [self.colours.get(_unpacked(int(c)), -2) for c in _packed(palette[used])]
            by_number = [self._id(int(number)) for number in used]
            if -2 not in by_colour and by_colour != by_number:
                return self.ids_of_colours(palette[numbers], name)
        return self.ids_of_numbers(numbers, name)

    def _id(self, number: int) -> int:
        """The id, -1 where nothing counts, -2 if there is no such class."""
        if self.values is not None and number in self.values:
            return self.values[number]
        if number in self.ignore:
            return NOWHERE
        if self.values is not None:
            return -2
        if self.reduce:
            number -= 1
        return number if NOWHERE <= number < len(self.labels) and (self.reduce or number >= 0) else -2

    def _checked(self, ids: Array, seen: Array, places: Array, name: str) -> Array:
        if not (ids == -2).any():
            return self._result(ids, places)
        unknown = [int(number) for number in seen[ids == -2]]
        counts = np.bincount(places.ravel(), minlength=len(seen))[ids == -2]
        known = f"numbers {listed(sorted(self.values))}" if self.values else f"ids 0 to {len(self.labels) - 1}"
        if self.reduce and not self.values:
            known = f"1 to {len(self.labels)}, and 0 for nothing"
        advice = "Give the full list of labels, or name the numbers that count nowhere (ignore=...)"
        if not self.reduce and unknown == [len(self.labels)]:
            advice += "; if the labels start at 1 and 0 means nothing, give reduce_labels=True"
        raise MaskError(
            f"{name} has {listed(unknown)} in {int(counts.sum()):,} of {places.size:,} pixels, but its "
            f"{len(self.labels)} labels have {known}. {advice}."
        )

    def _result(self, ids: Array, places: Array) -> Array:
        dtype = np.uint8 if len(self.labels) <= IGNORE else np.int32
        return np.where(ids == NOWHERE, self.labels.ignore, ids).astype(dtype)[places]


def _unique(values: Array) -> tuple[Array, Array]:
    """The different values, and for every pixel which of them it has."""
    if values.dtype == np.uint8:  # by counting: much faster than by sorting
        seen = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
        position = np.zeros(256, dtype=np.intp)
        position[seen] = np.arange(len(seen))
        return seen, position[values]
    seen, places = np.unique(values, return_inverse=True)
    return seen, places.reshape(values.shape)


def _packed(pixels: Array) -> Array:
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _unpacked(colour: int) -> Colour:
    return colour >> 16, colour >> 8 & 255, colour & 255


def _colours(packed: Array) -> str:
    return listed([_unpacked(int(colour)) for colour in packed], most=6)
