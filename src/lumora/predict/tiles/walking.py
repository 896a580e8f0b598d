"""Going over a large picture from top to bottom, a row of tiles at a time.

What is held: a band of the picture as high as a tile; of the row of tiles above, the logits beneath its seam; of the
tile to the left, its logits. So the memory grows with the picture's width, slowly, and not with its height.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lumora.data.rows import PictureRows
from lumora.predict.tiles.blending import Said, Share, blended
from lumora.predict.tiles.grid import Axis, Grid, Span

_ROWS_AT_ONCE = 64
"""Of a strip: what is done with it takes several times its memory."""

Ask = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""From tiles `uint8` (3, h, w), which all have one size, to logits (classes, rows, columns) of each."""


@dataclass(frozen=True)
class Strip:
    """Some rows of a picture as high as they are known, and all columns."""

    top: int
    pixels: Tensor
    """`uint8` (3, rows, width)."""
    classes: Tensor
    """(rows, width)."""


def strips(picture: PictureRows, grid: Grid, ask: Ask, batch_size: int) -> Iterator[Strip]:
    """The classes of all pixels, from top to bottom; each row of pixels comes once.

    Args:
        picture: is read once, from top to bottom.
        grid: of the picture's size.
        ask: the model.
        batch_size: how many tiles it sees at once.
    """
    height = grid.tile[0]
    pixels = torch.empty(3, 0, grid.size[1], dtype=torch.uint8)
    begins, done = 0, 0
    above: list[Said] = []
    for row, top in enumerate(grid.rows.starts):
        fresh = picture.rows(begins + pixels.shape[1], top + height)
        pixels, begins = torch.cat([pixels[:, top - begins :], fresh], dim=1), top
        spans = grid.rows.spans_until(row)
        ids = torch.empty(spans[-1].stop - done, grid.size[1], dtype=torch.int32)
        said = _said(pixels, grid.columns, ask, batch_size)
        below: list[Said] = []
        left: Said | None = None
        for column, here in enumerate(said):
            around = _Around(grid, row, column, here, left, above)
            for down, across in itertools.product(spans, grid.columns.spans_until(column)):
                place = slice(down.start - done, down.stop - done), slice(across.start, across.stop)
                ids[place] = around.classes(down, across).to(ids)
            if grid.rows.overlap and row + 1 < len(grid.rows.starts):
                below.append(here.bottom(grid.rows.overlap - grid.rows.margin))
            left = here
        for first in range(0, len(ids), _ROWS_AT_ONCE):
            rows = slice(first, min(first + _ROWS_AT_ONCE, len(ids)))
            yield Strip(done + first, pixels[:, done - top + rows.start : done - top + rows.stop], ids[rows])
        above, done = below, spans[-1].stop


def _said(pixels: Tensor, columns: Axis, ask: Ask, batch_size: int) -> Iterator[Said]:
    """What the model says of a row of tiles, from left to right."""
    tiles = (pixels[:, :, left : left + columns.tile] for left in columns.starts)
    while batch := list(itertools.islice(tiles, batch_size)):
        for logits in ask(batch):
            yield Said(logits, logits.shape[1], (pixels.shape[1], columns.tile))


@dataclass
class _Around:
    """A tile that has just become known, and those that it shares seams with."""

    grid: Grid
    row: int
    column: int
    here: Said
    left: Said | None
    above: Sequence[Said]
    _whole: Tensor | None = None

    def classes(self, down: Span, across: Span) -> Tensor:
        """The class of each pixel of a cell."""
        top, left = self._begins(self.row, self.column)
        if len(down.tiles) == len(across.tiles) == 1:
            if self._whole is None:
                self._whole = self.here.classes()
            return self._whole[down.start - top : down.stop - top, across.start - left : across.stop - left]
        shares = [self._share(row, column, down, across) for row in down.tiles for column in across.tiles]
        return blended(shares, (down.stop - down.start, across.stop - across.start))

    def _share(self, row: int, column: int, down: Span, across: Span) -> Share:
        top, left = self._begins(row, column)
        fades_in = (_fades_in(row, down), _fades_in(column, across))
        return Share(self._known(row, column), down.start - top, across.start - left, fades_in)

    def _known(self, row: int, column: int) -> Said:
        if row < self.row:
            return self.above[column]
        if column == self.column:
            return self.here
        assert self.left is not None
        return self.left

    def _begins(self, row: int, column: int) -> tuple[int, int]:
        return self.grid.rows.starts[row], self.grid.columns.starts[column]


def _fades_in(tile: int, span: Span) -> bool | None:
    return None if len(span.tiles) == 1 else tile == span.tiles[1]
