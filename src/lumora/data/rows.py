"""Pictures that are read from top to bottom, some rows at a time."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
import torch

from lumora.data.reading import (
    Limits,
    Readable,
    as_content,
    explained,
    opened,
    orientation_of,
    picture_of,
    rgb,
    too_large,
    zero_is_white,
)
from lumora.data.tiff_segments import Segments, segments_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_MOST_AT_ONCE = 1 << 26
"""A TIFF with more pixels in a row of tiles is decoded whole."""
_ANY = Limits(sys.maxsize)


class PictureRows(Protocol):
    """A picture that gives its rows in order."""

    height: int
    width: int
    held: int
    """Bytes of the picture that are in memory all the time: 0 where it is read in parts."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows `uint8` (3, stop - start, W) in RGB; cheap where `start` is the last `stop`."""
        ...


@contextmanager
def open_rows(source: Readable, *, limits: Limits | None = None) -> Generator[PictureRows]:
    """A picture to be read from top to bottom: the same pixels as `read_picture` gives.

    A TIFF is read in parts, if it lies in tiles or strips and upright; the limits do not count then, since nothing is
    decoded whole. All others are decoded whole: that costs 4 bytes a pixel, mostly.

    Args:
        source: a path, the bytes of a file, or a `Content`.
        limits: larger pictures are refused before they are decoded whole.
    """
    content = as_content(source)
    with opened(content, _ANY) as image, content.open() as file:
        segments = _parts(image, content.name)
        if segments is not None:
            yield _InParts(segments, file, content.name)
            return
        if image.width * image.height > (limits or Limits()).pixels:
            raise too_large(content.name, image.width, image.height, limits or Limits())
        yield _whole(image, content.name)


def can_be_read_in_parts(source: Readable) -> bool:
    """Whether a file is a TIFF that need not be decoded whole."""
    content = as_content(source)
    with opened(content, _ANY) as image:
        return _parts(image, content.name) is not None


def rows_of(pixels: Tensor) -> PictureRows:
    """A picture at hand, `uint8` (3, H, W)."""
    return _AtHand(pixels)


def _parts(image: Image, name: str) -> Segments | None:
    with explained(name):
        found = segments_of(image) if orientation_of(image) == 1 else None
    # A row of tiles that is most of the picture is no part of it.
    if found is None or found.tall * found.width > _MOST_AT_ONCE or found.tall * 2 > max(found.height, 128):
        return None
    return found


class _InParts:
    """A TIFF, of which a row of tiles is held at a time."""

    def __init__(self, segments: Segments, file: BinaryIO, name: str) -> None:
        self.height, self.width, self.held = segments.height, segments.width, 0
        self._segments, self._file, self._name = segments, file, name
        self._row = -1
        self._pixels: Any = None

    def rows(self, start: int, stop: int) -> Tensor:
        out = np.empty((stop - start, self.width, 3), np.uint8)
        tall = self._segments.tall
        for row in range(start // tall, -(-stop // tall)):
            top, bottom = max(start, row * tall), min(stop, (row + 1) * tall)
            out[top - start : bottom - start] = self._row_of_segments(row)[top - row * tall : bottom - row * tall]
        return torch.from_numpy(out).permute(2, 0, 1)

    def _row_of_segments(self, row: int) -> Any:
        if self._row != row:
            self._pixels, self._row = self._decoded(row), row
        return self._pixels

    def _decoded(self, row: int) -> Any:
        one = self._segments
        pixels = np.empty((min(one.tall, self.height - row * one.tall), self.width, 3), np.uint8)
        for column in range(one.across):
            left = column * one.wide
            with explained(self._name):
                part = np.array(rgb(one.decoded(self._file, row, column, self._name), self._name))
            pixels[:, left : left + one.wide] = part[: len(pixels), : self.width - left]
        return pixels


class _Decoded:
    """A picture of Pillow, whose parts become RGB when they are asked for."""

    def __init__(self, image: Image, name: str) -> None:
        self.width, self.height = image.size
        self.held = image.width * image.height * (4 if len(image.getbands()) > 1 else 1)
        self._image, self._name = image, name

    def rows(self, start: int, stop: int) -> Tensor:
        part = rgb(self._image.crop((0, start, self.width, stop)), self._name)
        return torch.from_numpy(np.array(part)).permute(2, 0, 1)


class _AtHand:
    """Pixels."""

    def __init__(self, pixels: Tensor) -> None:
        self.height, self.width = pixels.shape[1:]
        self.held = pixels.numel()
        self._pixels = pixels

    def rows(self, start: int, stop: int) -> Tensor:
        return self._pixels[:, start:stop]


def _whole(image: Image, name: str) -> PictureRows:
    """The picture decoded; one that is not upright, say, is turned, which costs a copy."""
    with explained(name):
        image.load()
    palette = image.mode in ("P", "PA") or "transparency" in image.info
    turned = image.mode.startswith(("I", "F")) and zero_is_white(image)  # others Pillow has turned
    if palette or turned or orientation_of(image) != 1:  # what a part of it does not say of itself
        return _AtHand(picture_of(image, name))
    return _Decoded(image, name)
