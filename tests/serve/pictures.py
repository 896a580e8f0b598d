"""Pictures' files, good and bad."""

import io
import struct
import zlib

from PIL import Image
from tests.data.making import noise


def encoded(array, kind="PNG"):
    """An array (H, W, 3) as a file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def a_picture(seed=0, kind="PNG", height=50, width=60):
    """A small picture's file."""
    return encoded(noise(height, width, seed=seed), kind)


def bomb(width=60_000, height=60_000):
    """A PNG file of a few kilobytes that says it is very large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * width + 1) * 100, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def cut_off(seed=0):
    """The first half of a JPEG file."""
    whole = a_picture(seed, "JPEG", 200, 200)
    return whole[: len(whole) // 2]
