"""The samples of data as they are written, before anything is made of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lumora.data.content import Content, InFile
from lumora.data.labels import Labels
from lumora.data.masks import Coding
from lumora.data.reading import Limits
from lumora.data.sample import Sample, TaskName
from lumora.errors import UnreadableError


@dataclass(frozen=True)
class Record:
    """One sample as it is written."""

    key: str
    split: str | None
    picture: Content
    mask: Content | None = None
    labels: tuple[str, ...] = ()
    """As they are spelled in the data."""


@dataclass(frozen=True)
class Records:
    """All samples of some data, and what was made out about them."""

    data: str
    layout: str
    task: TaskName | None
    records: Sequence[Record]
    labels: Labels | None = None
    coding: Coding | None = None
    """What the values of masks mean, as far as that is known."""
    guessed: bool = False
    """Whether the labels of masks are what occurs in them, as no list says."""
    root: Path | None = None
    limits: Limits = field(default_factory=Limits)
    problems: tuple[str, ...] = ()
    """Why a training could not open the data."""
    notes: tuple[str, ...] = ()
    pictures_alone: tuple[str, ...] = ()
    """Pictures beside those that have masks, without one."""
    masks_alone: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Picture files that belong to no sample."""
    twins: tuple[tuple[str, ...], ...] = ()
    """Folders or files whose names look the same and are written in other characters."""

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Drawn:
    """A sample of a caller's own class, which is no file: its picture or mask as PNG."""

    sample: Sample
    name: str
    is_mask: bool = False

    @property
    def path(self) -> None:
        """It has no file."""
        return

    def read(self) -> bytes:
        """The picture as PNG. Asks the sample for it each time."""
        file = io.BytesIO()
        self._image().save(file, "png", compress_level=1)
        return file.getvalue()

    def open(self) -> BinaryIO:
        """The same as a file."""
        return io.BytesIO(self.read())

    def stamp(self) -> str:
        """A name is all that is known without reading."""
        return self.name

    def _image(self) -> Any:
        from PIL import Image

        pixels = self.sample.mask() if self.is_mask else self.sample.picture()
        if pixels is None:
            raise UnreadableError(f"{self.name} is missing: the sample gives None. Leave the sample out.")
        if self.is_mask:
            return Image.fromarray(pixels.numpy().astype("uint16" if pixels.max() > 255 else "uint8"))
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def name_of(content: Content, root: Path | None) -> str:
    """What findings call a file: its path from the root of the data."""
    if isinstance(content, InFile) and root is not None and content.path.is_relative_to(root):
        return content.path.relative_to(root).as_posix()
    return content.name
