"""Decoding pictures and masks. Every file of pixels that Lumora reads is read here."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from lumora.data.content import Content, InFile, InMemory
from lumora.errors import DataError, MaskError, TooLargeError, UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from lumora.data.masks import Coding

    Array = NDArray[Any]

Readable = Content | Path | str | bytes

_ORIENTATION, _PHOTOMETRIC = 0x0112, 262
_LONG = 1 << 26
"""Bytes of a file whose header is looked at before all of it is read: it may be larger than the memory."""
_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded."""

    pixels: int = 80_000_000
    """The most pixels of a picture. Decoded, a picture of that many takes 240 MB."""


@dataclass(frozen=True)
class Header:
    """What a picture file says about itself before it is decoded."""

    format: str
    mode: str
    """Pillow's word for the kind of pixels: `RGB`, `L`, `P`, `CMYK`, `I;16` …"""
    height: int
    width: int
    """Both as stored: before the picture is turned the right way up."""
    orientation: int = 1
    """From 1 to 8 as EXIF counts; 1 is upright."""

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width once the picture is upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_picture(source: Readable, *, limits: Limits | None = None) -> Tensor:
    """Return a picture as a `uint8` tensor (3, H, W) in RGB, turned upright.

    Grey, palette and CMYK pictures become RGB; what is transparent becomes white; 16 bits become 8 by dropping the
    lower ones; of several frames the first is taken.

    Args:
        source: a path, the bytes of a file, or a `Content`.
        limits: larger pictures are refused before they are decoded.
    """
    content = as_content(source)
    with _opened_whole(content, limits or Limits()) as image:
        return picture_of(image, content.name)


def picture_of(image: Image, name: str = "the given picture") -> Tensor:
    """Return a picture of Pillow as `read_picture` returns that of a file; `name` is for messages."""
    with explained(name):
        image.load()  # some formats are turned by Pillow itself while it decodes them
        pixels = np.array(rgb(image, name))
        return upright(torch.from_numpy(pixels).permute(2, 0, 1), orientation_of(image)).contiguous()


def read_mask(
    source: Readable, coding: Coding, *, picture: Readable | None = None, limits: Limits | None = None
) -> Tensor:
    """Return a mask as class ids (H, W): `uint8`, or `int32` above 255 classes.

    Args:
        source: a path, the bytes of a file, or a `Content`.
        coding: what the values in the file mean.
        picture: the picture that it belongs to: the mask is turned with it and must be of its size.
        limits: larger masks are refused before they are decoded.
    """
    content = as_content(source)
    raw = read_raw_mask(content, limits=limits)
    if raw.palette is not None:
        ids = coding.ids_of_palette(raw.values, raw.palette, content.name)
    elif raw.values.ndim == 3:
        ids = coding.ids_of_colours(raw.values, content.name)
    else:
        ids = coding.ids_of_numbers(raw.values, content.name)
    mask = torch.from_numpy(np.ascontiguousarray(ids))
    if picture is None:
        return upright(mask, raw.orientation).contiguous()
    return _as_picture(mask, raw.orientation, as_content(picture), content.name, limits)


def read_small(source: Readable, side: int, *, limits: Limits | None = None) -> Array:
    """Return a picture shrunk to (side, side, 3) of 8 bits, upright; much faster than reading it whole.

    For comparing pictures: of a JPEG only the coarse part is decoded.
    """
    from PIL import Image

    content = as_content(source)
    with _opened_whole(content, limits or Limits()) as image, explained(content.name):
        orientation = orientation_of(image)
        if image.format == "JPEG":
            image.draft(image.mode, (4 * side, 4 * side))
        else:
            image.load()
            orientation = orientation_of(image)
        small = rgb(image, content.name).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
        turned = upright(torch.from_numpy(np.array(small)).permute(2, 0, 1), orientation)
        return turned.permute(1, 2, 0).numpy()


@dataclass(frozen=True)
class RawMask:
    """A mask as it is in its file."""

    values: Array
    """Numbers (H, W), or colours (H, W, 3)."""
    palette: Array | None = None
    """Colours (n, 3) that the numbers stand for, if the file has a palette."""
    orientation: int = 1


def read_raw_mask(source: Readable, *, limits: Limits | None = None) -> RawMask:
    """Return the numbers or colours of a mask file: not turned, and not yet class ids."""
    content = as_content(source)
    with _opened_whole(content, limits or Limits()) as image, explained(content.name):
        image.load()
        orientation = orientation_of(image)
        if image.mode == "P":
            palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            return RawMask(np.array(image), palette, orientation)
        if image.mode in ("1", "L", "LA", "La"):
            return RawMask(
                np.array(image.convert("L") if image.mode != "1" else image).astype(np.uint8), None, orientation
            )
        if image.mode.startswith("I"):
            return RawMask(np.array(image).astype(np.int64), None, orientation)
        if image.mode == "F":
            return RawMask(_whole(np.array(image), content.name), None, orientation)
        if image.mode in ("PA", "CMYK", "YCbCr", "RGBA", "RGBX", "RGB"):
            return RawMask(np.array(image.convert("RGB")), None, orientation)
    raise MaskError(f"{content.name} has pixels of kind {image.mode!r}; save it as PNG, in grey or with a palette.")


def read_header(source: Readable, *, limits: Limits | None = None) -> Header:
    """Return what a picture file says about itself; its pixels are not decoded."""
    content = as_content(source)
    with opened(content, limits or Limits()) as image, explained(content.name):
        orientation = orientation_of(image)
        width, height = image.size
        if image.format == "TIFF" and orientation >= 5:  # Pillow tells the size of the upright picture
            width, height = height, width
        return Header(image.format or "", image.mode, height, width, orientation)


def upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turn pixels (..., H, W) as an EXIF orientation says; a view where it can be."""
    if orientation >= 5:
        pixels = pixels.transpose(-1, -2)
    # After the transposition, what is left is to mirror left-right, top-bottom, or both.
    if orientation in (2, 3, 6, 7):
        pixels = pixels.flip(-1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels.flip(-2)
    return pixels


def as_content(source: Readable) -> Content:
    """A path or bytes as a `Content`."""
    if isinstance(source, bytes):
        return InMemory(source)
    if isinstance(source, str | Path):
        return InFile(Path(source))
    return source


@contextmanager
def _opened_whole(content: Content, limits: Limits) -> Generator[Image]:
    """The picture with its header read and all its bytes in memory, refused if it is too large."""
    if _is_long(content):
        with opened(content, limits):
            pass
    encoded = content.read()
    if not encoded:
        raise UnreadableError(f"{content.name} is empty (0 bytes); copy or download it again, or leave it out.")
    with opened(InMemory(encoded, content.name), limits) as image:
        yield image


def _is_long(content: Content) -> bool:
    try:
        return isinstance(content, InFile) and content.path.stat().st_size > _LONG
    except OSError:  # reading it tells why
        return False


def _as_picture(mask: Tensor, own: int, picture: Content, name: str, limits: Limits | None) -> Tensor:
    """Turn a mask as its picture is turned; their sizes must be the same then."""
    header = read_header(picture, limits=limits)
    if own == 1 and mask.shape == (header.height, header.width):
        mask = upright(mask, header.orientation)
    else:  # it says itself how to turn it, or was drawn on the upright picture
        mask = upright(mask, own)
    if mask.shape != header.shown:
        (height, width), (wanted_height, wanted_width) = mask.shape, header.shown
        raise MaskError(
            f"{name} is {width} x {height} pixels, but its picture {picture.name} is {wanted_width} x {wanted_height}. "
            "Is it another picture's mask? If the one was scaled, scale the other alike (a mask without smoothing)."
        )
    return mask.contiguous()


@contextmanager
def opened(content: Content, limits: Limits) -> Generator[Image]:
    """The picture with its header read, refused if it is too large."""
    with content.open() as file:
        with explained(content.name):
            image = _open_image(file, limits)
        with image:
            width, height = image.size
            if width * height > limits.pixels:
                raise too_large(content.name, width, height, limits)
            yield image


def _open_image(file: BinaryIO, limits: Limits) -> Image:
    from PIL import Image

    _leave_limits_to_us()
    try:
        return Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow has a limit of its own, one for the whole process; ours counts, and says the size and what to do.
        file.seek(0)
        with _pillow_limit:
            own = Image.MAX_IMAGE_PIXELS
            try:
                Image.MAX_IMAGE_PIXELS = None
                return Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = own


@functools.cache
def _leave_limits_to_us() -> None:
    """Let Pillow's own warning of large pictures be seen only where somebody has asked for it: our limits count."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)


@contextmanager
def explained(name: str) -> Generator[None]:
    """Errors of the decoders in words."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(
            f"{name} is not a picture in a format that can be read. Is it damaged, or something else under a picture's "
            "name? Save it as PNG or JPEG, or leave it out."
        ) from error
    except Exception as error:  # decoders of damaged files raise all sorts: OSError, SyntaxError, struct.error, …
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise UnreadableError(
            f"{name} cannot be decoded: {reason}. The file is damaged or cut off; copy or download it again, or leave "
            "it out."
        ) from error


def orientation_of(image: Image) -> int:
    """The EXIF orientation; 1 where there is none, or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata do not make the pixels worthless
        return 1
    return value if value in range(1, 9) else 1


def rgb(image: Image, name: str) -> Image:
    """A decoded picture of any kind in RGB."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, held in 16 or 32
        numbers = np.array(image).astype(np.int64)
        if numbers.min() < 0 or numbers.max() > 0xFFFF:
            raise _beyond(name, numbers, "0 to 65535")
        if zero_is_white(image):
            numbers = 0xFFFF - numbers
        return Image.fromarray((numbers >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        numbers = np.array(image)
        if not (np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= 1):
            raise _beyond(name, numbers, "0 to 1")
        if zero_is_white(image):
            numbers = 1 - numbers
        return Image.fromarray((numbers * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def zero_is_white(image: Image) -> bool:
    """Whether a TIFF's numbers say how dark pixels are; of 8 bits, Pillow has turned them by itself."""
    tags: Any = getattr(image, "tag_v2", {})
    return tags.get(_PHOTOMETRIC) == 0


def _whole(numbers: Array, name: str) -> Array:
    """Floating-point mask values as integers, which they must be."""
    whole = numbers.astype(np.int64)
    if not np.array_equal(whole, numbers):
        raise MaskError(f"{name} holds fractions ({numbers.min():g} to {numbers.max():g}); a mask holds whole numbers.")
    return whole


def _beyond(name: str, numbers: Array, wanted: str) -> UnreadableError:
    return UnreadableError(
        f"{name} has values from {numbers.min():g} to {numbers.max():g}; a {numbers.dtype} picture is read from "
        f"{wanted}. Scale it and save it as 8-bit PNG, or leave it out."
    )


def too_large(name: str, width: int, height: int, limits: Limits) -> TooLargeError:
    """The error for a picture beyond the limit, which says what to do."""
    pixels = width * height
    enough = -(-pixels // 10**7) * 10**7
    return TooLargeError(
        f"{name} is {width:,} x {height:,}: {pixels:,} pixels, and the limit is {limits.pixels:,}. Make it smaller or "
        f"cut it into tiles; if it is meant, raise the limit: limits=Limits(pixels={enough:_}), on the command line "
        f"--max-pixels {enough}."
    )
