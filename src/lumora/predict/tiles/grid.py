"""Where tiles lie on a picture, and who decides which pixels.

Along one axis, with three tiles of length T that overlap by O:

    tile 0    |------------------|
    tile 1              |------------------|
    tile 2                        |------------------|
    decides   000000000000010101111111111111212122222222
                           seam 0            seam 1

A seam is the middle half of an overlap; across it the one tile fades out and the next one fades in. So no tile decides
what lies within a quarter of the overlap from where it was cut. The last tile ends where the picture does, and begins
a little early for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lumora.data.reading import Limits
from lumora.errors import InputError

Size = tuple[int, int]
"""Height and width."""

_STRIDE = 32
"""What most networks shrink pictures by: tiles that begin at multiples of it are seen as they are in the whole."""


@dataclass(frozen=True)
class Span:
    """Pixels of one axis that the same tiles decide."""

    start: int
    stop: int
    tiles: tuple[int, ...]
    """One tile, or the two on both sides of a seam."""


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis of a picture.

    >>> axis = Axis(10, tile=6, overlap=2)
    >>> axis.starts, [(span.start, span.stop, span.tiles) for span in axis.spans()]
    ([0, 4], [(0, 4, (0,)), (4, 6, (0, 1)), (6, 10, (1,))])
    """

    length: int
    tile: int
    overlap: int

    @property
    def margin(self) -> int:
        """How many pixels beside a cut a tile does not decide."""
        return self.overlap // 4

    @property
    def starts(self) -> list[int]:
        """Where each tile begins."""
        last = self.length - self.tile
        step = self.tile - self.overlap
        return [min(i * step, last) for i in range(math.ceil(last / step) + 1)]

    def spans(self) -> list[Span]:
        """The parts of the axis in order; together they cover it once."""
        return [span for i in range(len(self.starts)) for span in self.spans_until(i)]

    def spans_until(self, tile: int) -> list[Span]:
        """Those that can be decided once this tile is known, and not before: its seam with the one before, its own."""
        starts = self.starts
        found: list[Span] = []
        begin = 0
        if tile > 0:
            begin = starts[tile - 1] + self.tile - self.margin
            found.append(Span(begin - self.overlap + 2 * self.margin, begin, (tile - 1, tile)))
        end = self.length if tile == len(starts) - 1 else starts[tile] + self.tile - self.overlap + self.margin
        found.append(Span(begin, end, (tile,)))
        return [span for span in found if span.stop > span.start]


@dataclass(frozen=True)
class Grid:
    """The tiles of a picture."""

    rows: Axis
    columns: Axis

    @property
    def size(self) -> Size:
        """The picture's."""
        return self.rows.length, self.columns.length

    @property
    def tile(self) -> Size:
        """A tile's."""
        return self.rows.tile, self.columns.tile

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Where each tile begins, row by row."""
        return ((top, left) for top in self.rows.starts for left in self.columns.starts)


@dataclass(frozen=True)
class Tiling:
    """When pictures are predicted by tiles, and by which."""

    seen: Size
    """What the model sees."""
    limits: Limits
    tile: int | Literal["auto"] | None = None
    """The longer side of a tile; None where only pictures beyond the limits are cut into tiles."""
    overlap: int | None = None

    @property
    def is_asked(self) -> bool:
        """Whether every picture that is larger than a tile is predicted by tiles."""
        return self.tile is not None

    def of(self, picture: Size) -> Grid | None:
        """The tiles of a picture of this size; None where it is predicted whole."""
        tile = max(self.seen) if self.tile in (None, "auto") else int(self.tile)
        whole = [round(side * tile / max(self.seen)) for side in self.seen]
        if picture[0] <= whole[0] and picture[1] <= whole[1]:
            return None
        if self.tile is None and picture[0] * picture[1] <= self.limits.pixels:
            return None
        return grid(picture, self.seen, tile, self.overlap)


def grid(picture: Size, seen: Size, tile: int | None = None, overlap: int | None = None) -> Grid:
    """The tiles of a picture for a model that sees pictures of a size.

    Tiles have the proportions of what the model sees, and are resized to it.

    Args:
        picture: its height and width.
        seen: what the model sees.
        tile: the longer side of a tile in the picture's pixels; that of what the model sees if not said. In a smaller
            picture tiles are smaller.
        overlap: by how many pixels tiles overlap; about a quarter of a tile if not said.

    >>> [axis.starts for axis in vars(grid((512, 1000), (512, 512))).values()]
    [[0], [0, 384, 488]]
    """
    tile = max(seen) if tile is None else tile
    if tile < 1 or (overlap is not None and not 0 <= overlap <= tile // 2):
        raise InputError(
            f"tile is {tile} and overlap {overlap}; a tile's side is at least 1, and its overlap half of that at most."
        )
    factor = min(tile / max(seen), picture[0] / seen[0], picture[1] / seen[1])
    sides = [max(1, min(round(side * factor), whole)) for side, whole in zip(seen, picture, strict=True)]
    axes = [
        Axis(whole, side, _usual_overlap(side, factor) if overlap is None else min(overlap, side // 2))
        for whole, side in zip(picture, sides, strict=True)
    ]
    return Grid(axes[0], axes[1])


def _usual_overlap(side: int, factor: float) -> int:
    """A quarter, or so much more that tiles begin where the network's own grid begins anew."""
    unit = max(1, round(_STRIDE * factor))
    step = max(side * 3 // 4 // unit * unit, math.ceil(side / 2))
    return side - step
