"""Parts of a TIFF that are decoded without the rest: its tiles, or its strips of rows.

Pillow decodes TIFFs whole. So each tile or strip is given to it as a small TIFF of its own, with the same tags; it is
decoded as the whole would be, whatever the compression.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from lumora.errors import UnreadableError

if TYPE_CHECKING:
    from PIL.Image import Image

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _PLANAR = 277, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_COPIED = (
    _BITS,
    _COMPRESSION,
    _PHOTOMETRIC,
    _SAMPLES,
    266,  # fill order
    317,  # predictor
    320,  # colour map
    338,  # extra samples
    339,  # sample format
    347,  # JPEG tables
    530,  # subsampling of YCbCr
    532,  # reference black and white
)
_PLAIN, _YCBCR = 1, 6
_START = 8
"""Where the directory begins."""
_ROWS_OF_PLAIN = 64
"""Strips that are not compressed are cut into strips of so many rows."""


@dataclass(frozen=True)
class Segments:
    """The tiles or strips of a TIFF, which lie in rows."""

    tags: Any
    """Pillow's."""
    height: int
    width: int
    """The picture's."""
    tall: int
    wide: int
    """A segment's."""
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def across(self) -> int:
        """How many lie side by side."""
        return -(-self.width // self.wide)

    def decoded(self, file: BinaryIO, row: int, column: int, name: str) -> Image:
        """One of them; those at the right and lower borders of tiled files are wider and taller than what is shown.

        `file` is the open TIFF, and `name` what messages call it.
        """
        from PIL import Image

        index = row * self.across + column
        file.seek(self.offsets[index])
        data = file.read(self.lengths[index])
        if len(data) < self.lengths[index]:
            raise UnreadableError(f"{name} is cut off: it ends within its pixels. Copy or download it again.")
        height = self.tall if self.is_tiled else min(self.tall, self.height - row * self.tall)
        image = Image.open(io.BytesIO(self._as_file(data, height)), formats=["TIFF"])
        image.load()
        return image

    @property
    def is_tiled(self) -> bool:
        """Whether they are tiles, which all have one size."""
        return _TILE_OFFSETS in self.tags

    @cached_property
    def _order(self) -> str:
        return "<" if self.tags.prefix == b"II" else ">"

    def _as_file(self, data: bytes, height: int) -> bytes:
        """A TIFF with this strip alone."""
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        start = self.tags.prefix + struct.pack(f"{self._order}HL", 42, _START)
        directory: Any = ImageFileDirectory_v2(start)
        for tag in _COPIED:
            if tag in self.tags:
                directory.tagtype[tag] = self.tags.tagtype[tag]
                directory[tag] = self.tags[tag]
        directory[_WIDTH], directory[_HEIGHT], directory[_STRIP_ROWS] = self.wide, height, height
        directory[_STRIP_OFFSETS], directory[_STRIP_BYTES] = 0, len(data)  # 0 is right behind the directory
        return start + cast(bytes, directory.tobytes(_START)) + data


def segments_of(image: Image) -> Segments | None:
    """The segments of an opened TIFF that is not decoded yet; None where it cannot be decoded in parts."""
    tags: Any = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None or tags.get(_PLANAR, 1) != 1:
        return None
    width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
    tiled = _TILE_OFFSETS in tags
    offsets, lengths = (
        tuple(int(n) for n in tags.get(tag, ()))
        for tag in ((_TILE_OFFSETS, _TILE_BYTES) if tiled else (_STRIP_OFFSETS, _STRIP_BYTES))
    )
    wide = int(tags[_TILE_WIDTH]) if tiled else width
    tall = int(tags[_TILE_HEIGHT]) if tiled else min(int(tags.get(_STRIP_ROWS, height)), height)
    if min(wide, tall) < 1 or len(offsets) != len(lengths) or len(offsets) != -(-width // wide) * -(-height // tall):
        return None
    found = Segments(tags, height, width, tall, wide, offsets, lengths)
    plain = tags.get(_COMPRESSION, _PLAIN) == _PLAIN and tags.get(_PHOTOMETRIC) != _YCBCR
    return _cut(found) if plain and not tiled and tall > _ROWS_OF_PLAIN else found


def _cut(strips: Segments) -> Segments | None:
    """Strips that are not compressed, cut into smaller ones."""
    bits = strips.tags.get(_BITS, (1,))
    row = -(-strips.width * sum(bits) // 8)
    if len(bits) != strips.tags.get(_SAMPLES, 1):
        return None
    offsets: list[int] = []
    lengths: list[int] = []
    for i, (offset, length) in enumerate(zip(strips.offsets, strips.lengths, strict=True)):
        rows = min(strips.tall, strips.height - i * strips.tall)
        if length < rows * row:
            return None
        for top in range(0, rows, _ROWS_OF_PLAIN):
            offsets.append(offset + top * row)
            lengths.append(min(_ROWS_OF_PLAIN, rows - top) * row)
    if strips.tall % _ROWS_OF_PLAIN and len(strips.offsets) > 1:
        return strips  # the cuts would not lie at even distances
    return Segments(
        strips.tags, strips.height, strips.width, _ROWS_OF_PLAIN, strips.wide, tuple(offsets), tuple(lengths)
    )
