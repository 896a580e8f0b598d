"""What one look at a picture or mask tells. Nothing decoded is kept: a few kilobytes for each file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lumora.data.content import Content, InMemory
from lumora.data.labels import Colour
from lumora.data.reading import Header, Limits, read_header, read_picture, read_raw_mask
from lumora.errors import DataError, TooLargeError, UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_COLOURS = 256
"""So many colours of a mask are remembered, the commonest; masks have few, and photographs do not matter."""


@dataclass(frozen=True)
class Problem:
    """Why a file cannot be read."""

    kind: str
    text: str


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a picture."""

    header: Header | None = None
    problem: Problem | None = None
    digest: bytes = b""
    """Of the upright pixels: the same for every file that shows exactly the same."""
    one_colour: bool = False
    see_through: bool = False
    """Whether some of it is transparent."""


@dataclass(frozen=True)
class MaskFacts:
    """What is known of a mask."""

    header: Header | None = None
    problem: Problem | None = None
    digest: bytes = b""
    numbers: Mapping[int, int] = field(default_factory=dict[int, int])
    """How many pixels have each number; of a colour picture, only if it is grey."""
    colours: Mapping[Colour, int] = field(default_factory=dict[Colour, int])
    """How many pixels have each colour, if it is a colour picture."""
    palette: Mapping[int, Colour] | None = None
    """The colours of the numbers that occur, if the file has a palette."""

    def in_colours(self, known: bool) -> bool:
        """Whether its colours are what counts, as it is read: a grey one of RGB is numbers unless colours are known."""
        return bool(self.colours) and (known or not self.numbers)

    @property
    def pixels(self) -> int:
        """The number of its pixels."""
        return self.header.height * self.header.width if self.header else 0


@dataclass(frozen=True)
class Facts:
    """What is known of one sample's files."""

    picture: PictureFacts
    mask: MaskFacts | None = None


def look(picture: Content, mask: Content | None, limits: Limits) -> Facts:
    """Read and decode a sample's files, once each."""
    return Facts(_picture(picture, limits), None if mask is None else _mask(mask, limits))


def _picture(content: Content, limits: Limits) -> PictureFacts:
    header = None
    try:
        held = _held(content)
        header = read_header(held, limits=limits)
        pixels = read_picture(held, limits=limits).numpy()
    except DataError as error:
        return PictureFacts(header, _problem(error))
    first = pixels[:, :1, :1]
    # Most pictures are told from one colour by their first row.
    one_colour = bool((pixels[:, :1] == first).all() and (pixels == first).all())
    return PictureFacts(header, None, _digest(pixels), one_colour, _is_see_through(held, header))


def _mask(content: Content, limits: Limits) -> MaskFacts:
    header = None
    try:
        held = _held(content)
        header = read_header(held, limits=limits)
        raw = read_raw_mask(held, limits=limits)
    except DataError as error:
        return MaskFacts(header, _problem(error))
    digest = _digest(raw.values)
    if raw.values.ndim == 3:
        numbers = _numbers(raw.values[..., 0]) if _is_grey(raw.values) else {}
        return MaskFacts(header, None, digest, numbers, _colours(raw.values))
    numbers = _numbers(raw.values)
    palette = None
    if raw.palette is not None:
        known = raw.palette
        palette = {n: _colour(known[n]) for n in numbers if n < len(known)}
    return MaskFacts(header, None, digest, numbers=numbers, palette=palette)


def _held(content: Content) -> InMemory:
    encoded = content.read()
    if not encoded:
        raise _EmptyError(f"{content.name} is empty (0 bytes).")
    return InMemory(encoded, content.name)


class _EmptyError(UnreadableError):
    pass


def _problem(error: DataError) -> Problem:
    if isinstance(error, _EmptyError):
        return Problem("empty-file", str(error))
    return Problem("too-large" if isinstance(error, TooLargeError) else "unreadable", str(error))


def _digest(pixels: NDArray[Any]) -> bytes:
    made = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
    made.update(np.ascontiguousarray(pixels).data)
    return made.digest()


def _is_see_through(content: InMemory, header: Header) -> bool:
    if header.mode not in ("RGBA", "LA", "PA", "P"):
        return False
    from PIL import Image

    with Image.open(content.open()) as image:
        if header.mode == "P" and "transparency" not in image.info:
            return False
        low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return isinstance(low, int | float) and low < 255


def _numbers(values: NDArray[Any]) -> dict[int, int]:
    if values.dtype == np.uint8:  # by counting: much faster than by sorting
        counts = np.bincount(values.ravel(), minlength=256)
        seen = np.flatnonzero(counts)
        return {int(n): int(counts[n]) for n in seen}
    seen, counts = np.unique(values, return_counts=True)
    order = np.sort(np.argsort(-counts, kind="stable")[: 4 * MOST_COLOURS])
    return {int(seen[i]): int(counts[i]) for i in order}


def _colours(pixels: NDArray[Any]) -> dict[Colour, int]:
    wide = pixels.astype(np.int32)
    seen, counts = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_COLOURS]
    unpacked = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in seen[order]]
    return dict(zip(unpacked, counts[order].tolist(), strict=True))


def _colour(values: NDArray[Any]) -> Colour:
    return int(values[0]), int(values[1]), int(values[2])


def _is_grey(pixels: NDArray[Any]) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())
