"""What is taken for a picture, and for several."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lumora.data.content import InFile, InMemory, unopened
from lumora.data.listing import Folder, contents_in_words, key_of
from lumora.data.reading import Limits, picture_of
from lumora.data.sample import Source, StoredSample
from lumora.errors import DataError, UnreadableError

_TAKEN = (
    "a path, a folder, the bytes of a file, a Pillow image, a numpy array (H, W, 3) or a tensor (3, H, W) of uint8, a "
    "sample, or a list of these"
)


@runtime_checkable
class Picture(Protocol):
    """One picture under a name. Every `Sample` of `lumora.data` is one."""

    @property
    def key(self) -> str:
        """The path of a file; of what is at hand, its place."""
        ...

    def picture(self) -> Tensor:
        """The picture as `uint8` (3, H, W) in RGB, the right way up."""
        ...


@dataclass(frozen=True, eq=False)
class AtHand:
    """A picture that was given as pixels."""

    key: str
    pixels: Tensor

    def picture(self) -> Tensor:
        """The pixels."""
        return self.pixels


@dataclass(frozen=True, eq=False)
class Unusable:
    """Something that is no picture; asking for it tells why."""

    key: str
    error: DataError

    def picture(self) -> Tensor:
        """Raise the error."""
        raise self.error


@dataclass(frozen=True)
class FromFile(StoredSample):
    """A picture's file."""

    inside: str = field(default="", kw_only=True)
    """Its path from the folder that was given, with slashes; its name if the file itself was given."""


def is_one(given: object) -> bool:
    """Whether this is meant as one picture and not as several."""
    if isinstance(given, str | os.PathLike):
        return not at_home(given).is_dir()
    return isinstance(given, bytes | Image.Image | np.ndarray | Tensor | Picture)


def pictures(given: object, limits: Limits | None = None) -> Iterator[Picture]:
    """Each picture of what was given; folders give all pictures in them and below, in order, but hidden ones.

    Files are read when their `picture()` is asked for. Pixels at hand are copied when it is their turn, so that the
    same array may be filled again with the next picture.
    """
    limits = limits or Limits()
    if is_one(given) or isinstance(given, str | os.PathLike):
        yield from _taken(given, 0, limits)
        return
    if isinstance(given, Source):
        raise DataError(f"A Source has splits; give one of them: source.splits[{next(iter(given.splits), 'test')!r}].")
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise DataError(f"{_kind(given)} is no picture. Give {_TAKEN}.")
    for number, one in enumerate(given):
        yield from _taken(one, number, limits)


def listed(paths: Sequence[str], limits: Limits | None = None) -> Iterator[Picture]:
    """The pictures of a list of paths; what is wrong with one of them is told when it is asked for.

    Each file's `inside` begins where the paths part.
    """
    limits = limits or Limits()
    whole = [at_home(path) for path in paths]
    root = Path(os.path.commonpath([without_dots(path).parent for path in whole])) if whole else Path()
    for path in whole:
        try:
            for picture in _on_disk(path, limits):
                if isinstance(picture, FromFile):
                    inside = key_of(without_dots(Path(picture.key)), root)
                    yield dataclasses.replace(picture, inside=inside)
                else:
                    yield picture
        except DataError as error:  # a folder without pictures
            yield Unusable(str(path), error)
        except OSError as error:  # one that may not be looked into, a name that is too long
            yield Unusable(str(path), unopened(path, error))


def without_dots(path: Path) -> Path:
    """The whole path, without `..` and without looking whether anything is there.

    >>> without_dots(Path("/pictures/a/../b.png")).as_posix()
    '/pictures/b.png'
    """
    return Path(os.path.normpath(path.absolute()))


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path with the user's folder in place of `~`, unless that is how a file's own name begins."""
    typed = Path(path)
    if os.path.lexists(typed):
        return typed
    try:
        return typed.expanduser()
    except RuntimeError:  # nobody is called so
        return typed


def _taken(given: object, number: int, limits: Limits) -> Iterator[Picture]:
    if isinstance(given, str | os.PathLike):
        yield from _on_disk(at_home(given), limits)
    elif isinstance(given, bytes):
        key = f"picture {number}"
        yield StoredSample(key, InMemory(given, key), limits=limits)
    elif isinstance(given, Picture):
        yield given
    else:
        yield _at_hand(given, f"picture {number}")


def _on_disk(path: Path, limits: Limits) -> Iterator[Picture]:
    if not path.is_dir():
        yield _missing(path) or FromFile(str(path), InFile(path), limits=limits, inside=path.name)
        return
    folder, empty = Folder(path), True
    for file in folder.all_pictures():
        empty = False
        yield FromFile(str(file), InFile(file), limits=limits, inside=folder.key(file))
    if empty:
        raise DataError(f"There are no pictures in {path}: it has {contents_in_words(folder)}.")


def _missing(path: Path) -> Unusable | None:
    if os.path.lexists(path):
        return None
    where = "" if path.parent.is_dir() else f" There is not even {path.parent}."
    hint = " Addresses are not fetched; download it first." if str(path).startswith(("http:", "https:")) else ""
    return Unusable(str(path), UnreadableError(f"There is no file or folder {path}.{where}{hint}"))


def _at_hand(given: object, key: str) -> Picture:
    try:
        if isinstance(given, Image.Image):
            return AtHand(key, picture_of(given, key))
        if isinstance(given, np.ndarray):
            return AtHand(key, _of_array(given, key))
        if isinstance(given, Tensor):
            return AtHand(key, _of_tensor(given, key))
    except DataError as error:
        return Unusable(key, error)
    return Unusable(key, DataError(f"{key} is {_kind(given)}, which is no picture. Give {_TAKEN}."))


def _of_array(array: NDArray[Any], key: str) -> Tensor:
    """The picture in an array: (H, W, 3), grey (H, W) or (H, W, 1), with transparency (H, W, 4)."""
    shape = array.shape
    if array.dtype != np.uint8:
        raise DataError(f"{key} is a numpy array of {array.dtype}; a picture is uint8, from 0 to 255.{_scaled(array)}")
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        hint = ""
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            hint = " If the colours come first, give array.transpose(1, 2, 0)."
        elif len(shape) == 4:
            hint = " Several pictures are given as a list: list(array)."
        raise DataError(f"{key} is a numpy array {shape}; a picture is (H, W, 3).{hint}")
    return picture_of(Image.fromarray(array[..., 0] if shape[2:] == (1,) else array), key)


def _of_tensor(tensor: Tensor, key: str) -> Tensor:
    """The picture in a tensor: (3, H, W), grey (1, H, W), with transparency (4, H, W)."""
    shape = tuple(tensor.shape)
    if tensor.dtype != torch.uint8:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise DataError(f"{key} is a tensor of {kind}; a picture is uint8, from 0 to 255.{_scaled(tensor)}")
    if len(shape) != 3 or 0 in shape or shape[0] not in (1, 3, 4):
        hint = ""
        if len(shape) == 3 and shape[2] in (1, 3, 4):
            hint = " If the colours come last, give tensor.permute(2, 0, 1)."
        elif len(shape) == 4:
            hint = " Several pictures are given as a list: list(tensor)."
        raise DataError(f"{key} is a tensor {shape}; a picture is (3, H, W).{hint}")
    return _of_array(tensor.detach().permute(1, 2, 0).cpu().numpy(), key)


def _scaled(pixels: NDArray[Any] | Tensor) -> str:
    """How to make one of floating point numbers."""
    if isinstance(pixels, Tensor):
        floating, convert = pixels.is_floating_point(), "(x * 255).round().to(torch.uint8)"
    else:
        floating, convert = np.issubdtype(pixels.dtype, np.floating), "(x * 255).round().astype('uint8')"
    return f" If it holds 0 to 1: {convert}." if floating else ""


def _kind(given: object) -> str:
    name = type(given).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
