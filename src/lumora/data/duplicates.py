"""Finding pictures that show the same: copies, also scaled, compressed again or a little brighter.

Each picture is reduced once to a *fingerprint*: 256 bits that say where it gets brighter from left to right (a
difference hash), its 16 × 16 brightnesses and its 4 × 4 colours. Two pictures are near duplicates if few bits differ,
the brightnesses go together and the colours are close.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lumora.data.content import Content
from lumora.data.reading import Limits, read_small
from lumora.errors import UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_SIDE = 16
_BITS_APART = 32
"""Of 256. Two pictures that have nothing to do with each other differ in about 128."""
_TOGETHER = 0.975
"""The least correlation of the brightnesses."""
_COLOURS_APART = 20.0
_FLAT = 3.0
"""A picture whose brightnesses deviate less than this shows nothing that could be compared: only its colour counts."""
_FLAT_COLOURS_APART = 1.5
_BLOCK = 256
_PAIRS = 100_000
_AT_ONCE = 1024
_ROW = 32 + 256 + 48 + 1


@dataclass(frozen=True)
class Fingerprints:
    """What is compared of many pictures; 336 bytes each."""

    bits: Array
    """(n, 4) of 64 bits."""
    brightness: Array
    """(n, 256) of 8 bits."""
    colours: Array
    """(n, 48) of 8 bits."""
    readable: Array
    """(n,): false for pictures that cannot be read; they are like no other."""

    def __len__(self) -> int:
        return len(self.bits)


def fingerprints(contents: Sequence[Content], limits: Limits | None = None, threads: int | None = None) -> Fingerprints:
    """Reduce pictures to their fingerprints. Reads each file once, and decodes only the coarse part of a JPEG."""
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        blocks = [
            _reduced(list(pool.map(_small, contents[start : start + _AT_ONCE], repeat(limits))))
            for start in range(0, len(contents), _AT_ONCE)
        ]
    return _from_rows(np.concatenate([np.zeros((0, _ROW), dtype=np.uint8), *blocks]))


def _reduced(small: Sequence[Array | None]) -> Array:
    """The fingerprints of shrunk pictures, None for those that cannot be read; as rows of bytes."""
    nothing = np.zeros((2 * _SIDE, 2 * _SIDE, 3), dtype=np.uint8)
    pixels = np.stack([nothing if each is None else each for each in small]).astype(np.float32)
    grey = _mean_blocks(pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32), 2)
    brighter = (grey < np.roll(grey, -1, axis=2)).reshape(len(small), _SIDE * _SIDE)
    readable = np.array([[each is not None] for each in small], dtype=np.uint8)
    return np.concatenate(
        [np.packbits(brighter, axis=1), _bytes(grey), _bytes(_mean_blocks(pixels, 8)), readable], axis=1
    )


def near_duplicates(prints: Fingerprints) -> list[tuple[int, int]]:
    """Pairs of near duplicates, the smaller number first; of pictures with equal fingerprints, each with the first.

    Compares all with all: seconds for 10,000.
    """
    pairs, first = _equal(prints)
    bits, colours = prints.bits[first], prints.colours[first].astype(np.float32)
    brightness = prints.brightness[first].astype(np.float32)
    brightness -= brightness.mean(axis=1, keepdims=True)
    deviation = np.sqrt((brightness**2).mean(axis=1))
    brightness /= np.maximum(deviation, 1e-6)[:, None] * _SIDE  # each row of length 1
    flat = deviation < _FLAT
    for start in range(0, len(first), _BLOCK):
        stop = start + _BLOCK
        alike = brightness[start:stop] @ brightness[start:].T >= _TOGETHER
        alike &= _bits_apart(bits[start:stop], bits[start:]) <= _BITS_APART
        alike &= ~flat[start:stop, None] & ~flat[None, start:]
        for close, most in (
            (alike, _COLOURS_APART),
            (flat[start:stop, None] & flat[None, start:], _FLAT_COLOURS_APART),
        ):
            one, two = np.nonzero(np.triu(close, 1))
            for part in range(0, len(one), _PAIRS):
                a, b = one[part : part + _PAIRS] + start, two[part : part + _PAIRS] + start
                same = np.abs(colours[a] - colours[b]).mean(axis=1) <= most
                pairs += zip(first[a[same]].tolist(), first[b[same]].tolist(), strict=True)
    return sorted((min(pair), max(pair)) for pair in pairs)


def _equal(prints: Fingerprints) -> tuple[list[tuple[int, int]], Array]:
    """Pairs of pictures with the very same fingerprint, and the numbers of the first of each kind."""
    rows = np.ascontiguousarray(np.concatenate([prints.brightness, prints.colours], axis=1))
    of: dict[bytes, int] = {}
    pairs: list[tuple[int, int]] = []
    for i in np.flatnonzero(prints.readable).tolist():
        first = of.setdefault(rows[i].tobytes(), i)
        if first != i:
            pairs.append((first, i))
    return pairs, np.array(list(of.values()), dtype=np.intp)


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` things the smallest number of its group; what is paired, also over others, is one group.

    >>> groups(5, [(0, 2), (2, 4)])
    [0, 1, 0, 3, 0]
    """
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for one, two in pairs:
        low, high = sorted((root(one), root(two)))
        parent[high] = low
    return [root(i) for i in range(count)]


def stored_fingerprints(contents: Sequence[Content], store: Path, limits: Limits | None = None) -> Fingerprints:
    """The same as `fingerprints`, computed only for pictures that are new or changed since the store was written.

    Args:
        contents: the pictures.
        store: a file, which is made if it is missing or damaged.
        limits: larger pictures count as unreadable.
    """
    stamps = [hashlib.sha256(content.stamp().encode("utf-8", "surrogateescape")).digest()[:16] for content in contents]
    old = _load(store)
    new = [i for i, stamp in enumerate(stamps) if stamp not in old]
    prints = fingerprints([contents[i] for i in new], limits)
    for i, row in zip(new, _rows(prints), strict=True):
        old[stamps[i]] = row
    rows = np.stack([old[stamp] for stamp in stamps]) if stamps else np.zeros((0, _ROW), dtype=np.uint8)
    if new:
        _save(store, stamps, rows)
    return _from_rows(rows)


def _rows(prints: Fingerprints) -> Array:
    """One row of bytes for each picture: bits, brightness, colours, readable."""
    bits = np.ascontiguousarray(prints.bits).view(np.uint8).reshape(len(prints), 32)
    return np.concatenate([bits, prints.brightness, prints.colours, prints.readable[:, None].astype(np.uint8)], axis=1)


def _from_rows(rows: Array) -> Fingerprints:
    bits, brightness, colours, readable = np.split(rows, [32, 288, 336], axis=1)
    return Fingerprints(np.ascontiguousarray(bits).view(np.uint64), brightness, colours, readable[:, 0].astype(bool))


def _load(store: Path) -> dict[bytes, Array]:
    try:
        table = np.load(store, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return {}
    if table.dtype != np.uint8 or table.ndim != 2 or table.shape[1] != 16 + _ROW:
        return {}
    return {row[:16].tobytes(): row[16:] for row in table}


def _save(store: Path, stamps: Sequence[bytes], rows: Array) -> None:
    """Written beside the old one, which it then replaces; a store that cannot be written is done without."""
    table = np.concatenate([np.frombuffer(b"".join(stamps), dtype=np.uint8).reshape(-1, 16), rows], axis=1)
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=store.parent, suffix=".npy", delete=False) as file:
            np.save(file, table, allow_pickle=False)
        Path(file.name).replace(store)
    except OSError:
        return


def _small(content: Content, limits: Limits | None) -> Array | None:
    try:
        return read_small(content, 2 * _SIDE, limits=limits)
    except UnreadableError:
        return None


def _mean_blocks(pixels: Array, size: int) -> Array:
    """The means of blocks of `size` x `size` pixels of (n, H, W, ...)."""
    n, height, width = pixels.shape[:3]
    blocks = pixels.reshape(n, height // size, size, width // size, size, *pixels.shape[3:])
    return blocks.mean(axis=(2, 4))


def _bytes(values: Array) -> Array:
    return values.round().astype(np.uint8).reshape(len(values), -1)


def _bits_apart(one: Array, two: Array) -> Array:
    apart = np.zeros((len(one), len(two)), dtype=np.uint16)
    for word in range(one.shape[1]):
        apart += np.bitwise_count(one[:, word, None] ^ two[None, :, word])
    return apart
