"""Where the bytes of a picture or mask lie. Nothing is read before it is asked for."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from lumora.errors import UnreadableError


class Content(Protocol):
    """The bytes of one encoded picture or mask."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    @property
    def path(self) -> Path | None:
        """Its file, if it has one to itself."""
        ...

    def read(self) -> bytes:
        """All its bytes."""
        ...

    def open(self) -> BinaryIO:
        """The same to be read in part; the caller closes it."""
        ...

    def stamp(self) -> str:
        """A text that changes when the bytes do; found without reading them where that can be."""
        ...


@dataclass(frozen=True)
class InFile:
    """A file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def read(self) -> bytes:
        """All its bytes."""
        with self.open() as file:
            return file.read()

    def open(self) -> BinaryIO:
        """The open file."""
        try:
            return self.path.open("rb")
        except OSError as error:
            raise unopened(self.path, error) from error

    def stamp(self) -> str:
        """Path, size and time of the last change."""
        try:
            found = self.path.stat()
        except OSError:
            return f"{self.path}:missing"
        return f"{self.path.absolute()}:{found.st_size}:{found.st_mtime_ns}"


@dataclass(frozen=True)
class InArchive:
    """A member of an uncompressed tar archive, found by its place in it."""

    archive: Path
    member: str
    offset: int
    length: int

    @property
    def name(self) -> str:
        """Archive and member."""
        return f"{self.archive}:{self.member}"

    @property
    def path(self) -> None:
        """It has no file to itself."""
        return

    def read(self) -> bytes:
        """All its bytes; the rest of the archive is not read."""
        with InFile(self.archive).open() as file:
            file.seek(self.offset)
            content = file.read(self.length)
        if len(content) < self.length:
            raise UnreadableError(
                f"{self.name} ends after {len(content):,} of {self.length:,} bytes: the archive is cut off. Copy or "
                "download it again."
            )
        return content

    def open(self) -> BinaryIO:
        """Its bytes as a file in memory."""
        return io.BytesIO(self.read())

    def stamp(self) -> str:
        """The archive's stamp and the place in it."""
        return f"{InFile(self.archive).stamp()}:{self.offset}:{self.length}"


@dataclass(frozen=True)
class InCell:
    """A cell of a table of the `datasets` library, whose pictures it does not decode."""

    rows: Any = field(repr=False)
    index: int
    column: str
    table: str = "row"

    @property
    def name(self) -> str:
        """Table, row and column."""
        return f"{self.table} {self.index}, column {self.column!r}"

    @property
    def path(self) -> Path | None:
        """Its file, if the table holds paths and not pictures. Reads the cell."""
        cell = self._cell()
        return Path(str(cell["path"])) if cell.get("bytes") is None and cell.get("path") else None

    def read(self) -> bytes:
        """All its bytes."""
        cell = self._cell()
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        if cell.get("path"):
            return InFile(Path(str(cell["path"]))).read()
        raise UnreadableError(f"{self.name} is empty: this row has no picture. Remove it or fill it in.")

    def open(self) -> BinaryIO:
        """Its bytes as a file in memory."""
        return io.BytesIO(self.read())

    def stamp(self) -> str:
        """The table's own fingerprint and the cell's place."""
        return f"{getattr(self.rows, '_fingerprint', self.table)}:{self.index}:{self.column}"

    def _cell(self) -> Mapping[str, Any]:
        return self.rows[self.index][self.column] or {}


@dataclass(frozen=True)
class InMemory:
    """Bytes at hand."""

    content: bytes = field(repr=False)
    name: str = "the given bytes"

    @property
    def path(self) -> None:
        """It has no file."""
        return

    def read(self) -> bytes:
        """The bytes."""
        return self.content

    def open(self) -> BinaryIO:
        """The bytes as a file."""
        return io.BytesIO(self.content)

    def stamp(self) -> str:
        """A hash of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


def unopened(path: Path, error: OSError) -> UnreadableError:
    """What to say of a file that cannot be opened."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return UnreadableError(f"{path} cannot be opened: {why}. {_what_to_do(error)}")


def _what_to_do(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Give yourself the right to read it (chmod +r), or leave it out."
    if isinstance(error, FileNotFoundError):
        return "Was it moved or deleted since the data were listed?"
    return "Check the disk, or leave the file out."
