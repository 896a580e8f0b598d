"""The mask of a large picture, as it comes into being."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lumora.predict.asking import Asking
from lumora.predict.looking import Large
from lumora.predict.tiles.grid import Size
from lumora.predict.tiles.walking import Strip, strips
from lumora.tasks import MaskPrediction


@dataclass(frozen=True, eq=False)
class LargeMask:
    """The mask of a picture that is predicted by tiles, from top to bottom, when it is asked for.

    Costs: a band of the picture as high as a tile, and what the model says beneath a seam. The picture is read in
    parts if it is a TIFF, else it is decoded once and whole.
    """

    large: Large
    asking: Asking
    classes: int
    batch_size: int

    @property
    def size(self) -> Size:
        """The picture's height and width."""
        return self.large.grid.size

    def strips(self) -> Iterator[Strip]:
        """The classes of all pixels with the pixels themselves, some rows at a time, from top to bottom."""
        with self.large.rows() as rows:
            yield from strips(rows, self.large.grid, self._said, self.batch_size)

    def whole(self) -> MaskPrediction:
        """The mask, put together. Costs a byte for each pixel."""
        mask = torch.empty(self.size, dtype=torch.uint8 if self.classes <= 256 else torch.int32)
        for strip in self.strips():
            mask[strip.top : strip.top + len(strip.classes)] = strip.classes.to(mask.dtype)
        return MaskPrediction(mask)

    def _said(self, tiles: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.asking.logits([self.asking.framed(tile) for tile in tiles]).unbind()
