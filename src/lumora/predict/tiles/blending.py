"""Classes of pixels that one tile decides, or several together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lumora.ops.upsampled import upsampled_argmax
from lumora.ops.upsampled.tiles import band, finite, working_dtype
from lumora.predict.tiles.grid import Size

_ELEMENTS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Said:
    """What a model says of a tile: logits of some size, which are interpolated to the tile's."""

    logits: Tensor
    """(classes, rows, columns): all rows, or the last ones."""
    rows: int
    """How many rows there are in all."""
    tile: Size

    @property
    def missing(self) -> int:
        """How many of the first rows are not there any more."""
        return self.rows - self.logits.shape[1]

    def bottom(self, pixels: int) -> Said:
        """As much of it as the last rows of pixels need; a copy, so that the rest can go."""
        first = band(self.rows, self.tile[0], self.tile[0] - pixels, self.tile[0], self.logits).inputs.start
        return Said(self.logits[:, first - self.missing :].clone(), self.rows, self.tile)

    def classes(self) -> Tensor:
        """The class of every pixel of the tile, as a prediction of the tile alone would have it."""
        kind = torch.uint8 if len(self.logits) <= 256 else torch.int32
        return upsampled_argmax(self.logits[None], self.tile, dtype=kind)[0]

    def probabilities(self, rows: slice, columns: slice) -> Tensor:
        """(classes, rows, columns) of a part of the tile."""
        low = finite(self.logits.to(working_dtype(self.logits)))
        down = band(self.rows, self.tile[0], rows.start, rows.stop, low)
        across = band(low.shape[2], self.tile[1], columns.start, columns.stop, low)
        inputs = slice(down.inputs.start - self.missing, down.inputs.stop - self.missing)
        return (down.weights @ low[:, inputs, across.inputs] @ across.weights.t()).softmax(0)


@dataclass(frozen=True)
class Share:
    """A tile's part in deciding a cell."""

    said: Said
    top: int
    left: int
    """Where the cell begins in the tile."""
    fades_in: tuple[bool | None, bool | None]
    """Down and across: whether the tile fades in or out there; None where it does neither."""


def blended(shares: Sequence[Share], size: Size) -> Tensor:
    """The class of every pixel of a cell: the likeliest, where each tile's probabilities count as its share grows."""
    height, width = size
    classes = len(shares[0].said.logits)
    ids = torch.empty(size, dtype=torch.uint8 if classes <= 256 else torch.int32)
    at_once = max(1, _ELEMENTS_AT_ONCE // (classes * width))
    for first in range(0, height, at_once):
        rows = slice(first, min(first + at_once, height))
        total: Tensor | None = None
        for share in shares:
            weights = _weights(share.fades_in, size)[rows].to(share.said.logits.device)
            part = share.said.probabilities(
                slice(share.top + rows.start, share.top + rows.stop), slice(share.left, share.left + width)
            ).mul_(weights)
            total = part if total is None else total.add_(part)
        assert total is not None
        ids[rows] = total.max(0).indices.to(ids.dtype).cpu()
    return ids


def _weights(fades_in: tuple[bool | None, bool | None], size: Size) -> Tensor:
    """How much a tile counts in each pixel of a cell; the shares of all its tiles add up to 1."""
    down, across = (_ramp(way, length) for way, length in zip(fades_in, size, strict=True))
    return down[:, None] * across


def _ramp(fades_in: bool | None, length: int) -> Tensor:
    if fades_in is None:
        return torch.ones(length)
    rising = (torch.arange(length) + 0.5) / length
    return rising if fades_in else 1 - rising
