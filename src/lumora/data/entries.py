"""One decoded picture with its mask in a file that can be mapped into memory."""

from __future__ import annotations

import contextlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

# Name and version of the format; which run of the machine wrote it; checksum of all that follows; height and width of
# picture and mask; the mask's kind; whether the fixed transforms were done; padding.
_HEADER = struct.Struct("<8s16sIIIIIBB18x")
_CHECKED_FROM = 28
_MAGIC = b"lumora\0\1"
_MASKS = {0: None, 1: torch.uint8, 2: torch.int32}


@dataclass(frozen=True)
class Entry:
    """What is kept of one sample."""

    picture: Tensor
    """`uint8 (3, H, W)`."""
    mask: Tensor | None
    prepared: bool
    """Whether the transforms that draw nothing were done already."""

    @property
    def size(self) -> int:
        """Bytes of its file."""
        return _HEADER.size + self.picture.nbytes + (0 if self.mask is None else self.mask.nbytes)


def write(file: BinaryIO, entry: Entry) -> None:
    """Write an entry whole."""
    # Interleaved: a crop is then one piece of memory, and resizing wants it so.
    picture = entry.picture.permute(1, 2, 0).contiguous().numpy().data
    mask = b"" if entry.mask is None else entry.mask.contiguous().numpy().data
    height, width = entry.picture.shape[-2:]
    mask_height, mask_width = (0, 0) if entry.mask is None else entry.mask.shape
    shape = (height, width, mask_height, mask_width, _kind(entry.mask), entry.prepared)
    head = _HEADER.pack(_MAGIC, b"", 0, *shape)
    checksum = zlib.crc32(mask, zlib.crc32(picture, zlib.crc32(head[_CHECKED_FROM:])))
    file.write(_HEADER.pack(_MAGIC, boot(), checksum, *shape))
    file.write(picture)
    file.write(mask)


def can_hold(picture: Tensor, mask: Tensor | None) -> bool:
    """Whether an entry can be made of these."""
    return picture.dtype == torch.uint8 and (mask is None or mask.dtype in _MASKS.values())


def _kind(mask: Tensor | None) -> int:
    return list(_MASKS.values()).index(None if mask is None else mask.dtype)


def read(path: Path, verified: set[str]) -> Entry | None:
    """The entry, mapped into memory: pixels are read when they are looked at. None if the file is damaged.

    A file that this run of the machine wrote is whole, for it got its name when it was. One from before may have lost
    pages when the machine went down, so it is checked once. Raises FileNotFoundError.
    """
    length = path.stat().st_size
    if length < _HEADER.size:
        return None
    try:
        # Not shared: whoever writes to these tensors changes a copy of his own, never the file.
        pages = torch.from_file(str(path), shared=False, size=length, dtype=torch.uint8)
    except RuntimeError:
        if path.exists():
            raise
        raise FileNotFoundError(path) from None
    head, body = pages.split([_HEADER.size, length - _HEADER.size])
    magic, wrote, checksum, height, width, mask_height, mask_width, kind, prepared = _HEADER.unpack(bytes(head.numpy()))
    dtype = _MASKS.get(kind)
    pixels, mask_pixels = height * width, mask_height * mask_width
    whole = _HEADER.size + 3 * pixels + mask_pixels * (dtype.itemsize if dtype else 0)
    if magic != _MAGIC or length != whole or not pixels:
        return None
    if (not boot() or wrote != boot()) and path.name not in verified:
        if zlib.crc32(pages[_CHECKED_FROM:].numpy().data) != checksum:
            return None
        verified.add(path.name)
        _mark_as_checked(path)
    picture, rest = body.split([3 * pixels, len(body) - 3 * pixels])
    mask = None
    if dtype is not None:
        # Values of 32 bits need not lie at a multiple of four here.
        mask = (rest if dtype == torch.uint8 else rest.clone().view(dtype)).view(mask_height, mask_width)
    return Entry(picture.view(height, width, 3).permute(2, 0, 1), mask, bool(prepared))


def _mark_as_checked(path: Path) -> None:
    if boot():
        with contextlib.suppress(OSError), path.open("rb+") as file:  # a folder that is not ours to write
            file.seek(len(_MAGIC))
            file.write(boot())


_boot: list[bytes] = []


def boot() -> bytes:
    """Sixteen bytes that stand for the time since this machine was started; none where that is not known."""
    if not _boot:
        try:
            text = Path("/proc/sys/kernel/random/boot_id").read_text()
            _boot.append(bytes.fromhex(text.strip().replace("-", "")))
        except (OSError, ValueError):
            _boot.append(b"")
    return _boot[0]
