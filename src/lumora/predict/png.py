"""Masks as PNG files that are written from top to bottom, so that no mask has to be in memory as a whole."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np
from torch import Tensor

from lumora.data.labels import Labels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_NO_FILTER = b"\0"
_CHUNK = 1 << 20


class PngMask:
    """A PNG file whose pixels are class ids, with the classes' colours; above 256 classes 16-bit grey.

    Used as a context manager. The file is whole when every row was written and the context has ended.

    Args:
        path: the file.
        size: height and width.
        labels: the names and colours of the ids.
    """

    def __init__(self, path: Path, size: tuple[int, int], labels: Labels) -> None:
        self._kind = np.dtype(np.uint8) if len(labels) <= 256 else np.dtype(">u2")
        self._packing = zlib.compressobj(6)
        self._waiting = bytearray()
        self._file = path.open("wb")
        self._file.write(_SIGNATURE)
        height, width = size
        depth = 8 * self._kind.itemsize
        colours = _PALETTE if depth == 8 else _GREY
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
        if depth == 8:
            self._chunk(b"PLTE", bytes(channel for colour in labels.palette() for channel in colour))

    def write(self, ids: Tensor) -> None:
        """Add rows of class ids (rows, width)."""
        for row in ids.numpy().astype(self._kind):
            self._waiting += self._packing.compress(_NO_FILTER + row.tobytes())
        while len(self._waiting) >= _CHUNK:
            self._chunk(b"IDAT", bytes(self._waiting[:_CHUNK]))
            del self._waiting[:_CHUNK]

    def __enter__(self) -> PngMask:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._chunk(b"IDAT", bytes(self._waiting) + self._packing.flush())
                self._chunk(b"IEND", b"")

    def _chunk(self, name: bytes, data: bytes) -> None:
        check = zlib.crc32(data, zlib.crc32(name))
        self._file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", check))
