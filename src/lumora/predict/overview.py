"""Large pictures and their masks made small while they pass, to be drawn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lumora.predict.tiles.walking import Strip


class Overview:
    """A picture with its mask, at most `side` pixels high and wide, from strips that come one after the other.

    Of each square of pixels the picture has the mean colour and the mask the class in its middle.
    """

    def __init__(self, size: tuple[int, int], side: int = 2048) -> None:
        self.factor = max(1, math.ceil(max(size) / side))
        """How many pixels become one, along each axis."""
        height, width = (-(-length // self.factor) for length in size)
        # whole from the beginning: small parts among what comes and goes would keep the system's memory in pieces
        self._pixels = torch.empty(3, height, width, dtype=torch.uint8)
        self._classes = torch.empty(height, width, dtype=torch.int32)
        self._done = 0
        self._left = torch.empty(3, 0, size[1], dtype=torch.uint8)
        self._left_classes = torch.empty(0, size[1], dtype=torch.int32)

    def add(self, strip: Strip) -> None:
        """Take the next rows."""
        pixels = torch.cat([self._left, strip.pixels], dim=1)
        classes = torch.cat([self._left_classes, strip.classes.to(torch.int32)])
        rows = len(classes) // self.factor * self.factor
        if rows:
            self._shrink(pixels[:, :rows], classes[:rows])
        self._left, self._left_classes = pixels[:, rows:].clone(), classes[rows:].clone()

    def drawn(self) -> tuple[Tensor, Tensor]:
        """The small picture, `uint8` (3, h, w), and its mask (h, w)."""
        if len(self._left_classes):
            self._shrink(self._left, self._left_classes)
            self._left, self._left_classes = self._left[:, :0], self._left_classes[:0]
        return self._pixels[:, : self._done], self._classes[: self._done]

    def _shrink(self, pixels: Tensor, classes: Tensor) -> None:
        by = self.factor
        mean = torch.nn.functional.avg_pool2d(pixels[None].float(), by, ceil_mode=True, count_include_pad=False)
        rows, columns = (_middles(length, by) for length in classes.shape)
        place = slice(self._done, self._done + len(rows))
        self._pixels[:, place] = mean[0].round().to(torch.uint8)
        self._classes[place] = classes[rows][:, columns]
        self._done = place.stop


def _middles(length: int, by: int) -> Tensor:
    """The middle of each run of pixels."""
    starts = torch.arange(0, length, by)
    return (starts + (starts + by).clamp(max=length)) // 2
