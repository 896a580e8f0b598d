"""What a model sees of a picture: all of it at once, or tiles of it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from lumora.data.content import Content
from lumora.data.reading import Limits, read_header
from lumora.data.rows import PictureRows, can_be_read_in_parts, open_rows, rows_of
from lumora.data.sample import StoredSample
from lumora.errors import DataError, InputError, LumoraWarning, TooLargeError
from lumora.predict.asking import Asking
from lumora.predict.pictures import Picture
from lumora.predict.telling import bare
from lumora.predict.tiles.grid import Grid, Size, Tiling

_ANY = Limits(sys.maxsize)
_WORTH_TELLING = 500_000_000


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model sees of a picture."""

    pixels: Tensor
    """`uint8`; they become numbers a batch at a time, on the model's device."""
    size: Size
    """Of the picture itself."""


@dataclass(frozen=True, eq=False)
class Large:
    """A picture that the model sees by tiles, and that was not read yet."""

    picture: Picture
    grid: Grid
    limits: Limits

    @contextmanager
    def rows(self) -> Generator[PictureRows]:
        """The picture, to be read from top to bottom."""
        if isinstance(self.picture, StoredSample):
            with open_rows(self.picture.content, limits=self.limits) as rows:
                if rows.held > _WORTH_TELLING:
                    warnings.warn(
                        f"{self.picture.key} has to be decoded whole, which takes {rows.held / 1e9:.1f} GB; a TIFF in "
                        "tiles or strips is read in parts.",
                        LumoraWarning,
                        stacklevel=2,
                    )
                yield rows
        else:
            yield rows_of(self.picture.picture())


@dataclass(frozen=True, eq=False)
class Looking:
    """How pictures are looked at."""

    asking: Asking
    tiling: Tiling

    def check(self) -> None:
        """Raise unless tiles make sense where they were asked for."""
        if self.tiling.is_asked and self.asking.task != "segmentation":
            raise InputError(
                f"This bundle is for {self.asking.task}, which sees each picture as a whole; tiles are for masks. "
                "Leave out tile=... (--tile)."
            )
        if self.tiling.is_asked or self.tiling.overlap is not None:
            self.tiling.of((sys.maxsize, sys.maxsize))

    def look(self, picture: Picture) -> Seen | Large | DataError:
        """What the model will see of a picture, or why there is nothing to be seen."""
        try:
            if self.tiling.is_asked and (large := self._large(picture)):
                return large
            return self._whole(picture)
        except TooLargeError as error:
            return self._large_after_all(picture) or bare(error)
        except DataError as error:
            return bare(error)

    def _whole(self, picture: Picture) -> Seen:
        pixels = picture.picture()
        height, width = pixels.shape[1:]
        return Seen(self.asking.framed(pixels), (height, width))

    def _large(self, picture: Picture) -> Large | None:
        grid = self.tiling.of(_size(picture))
        return None if grid is None else Large(picture, grid, self.tiling.limits)

    def _large_after_all(self, picture: Picture) -> Large | None:
        """A picture beyond the limits that can be read in parts."""
        content = _content(picture)
        if self.asking.task != "segmentation" or content is None:
            return None
        try:
            return self._large(picture) if can_be_read_in_parts(content) else None
        except DataError:
            return None


def _size(picture: Picture) -> Size:
    """Height and width; of a file, from its header."""
    content = _content(picture)
    if content is not None:
        return read_header(content, limits=_ANY).shown
    height, width = picture.picture().shape[1:]
    return height, width


def _content(picture: Picture) -> Content | None:
    return picture.content if isinstance(picture, StoredSample) else None
