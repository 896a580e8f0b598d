"""What lies in a folder: its pictures, tables and folders, without what systems and programs hide there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from lumora.data.labels import same_text
from lumora.errors import LayoutError, UnreadableError

PICTURES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .ppm .pgm .pbm .pnm .avif .jp2 .j2k".split()
)
"""Endings of files that are pictures."""

_LEFT = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_SYSTEM = _LEFT | {"__macosx", "@eadir", "$recycle.bin", "lost+found"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is nothing that a person put there to be seen.

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("Thumbs.db"), is_hidden("cats")
    (True, True, False)
    """
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def is_left_by_system(name: str) -> bool:
    """Whether a file is one that systems leave in a folder that somebody has only looked into.

    >>> is_left_by_system(".DS_Store"), is_left_by_system("Thumbs.db"), is_left_by_system(".env")
    (True, True, False)
    """
    return name.lower() in _LEFT


class Folder:
    """A folder, listed when it is first asked, and once.

    Names are in composed letters, whatever the file system makes of them. Links to folders are followed, but not in
    circles.
    """

    def __init__(self, path: Path, root: Path | None = None, above: frozenset[Path] = frozenset()) -> None:
        self.path = path
        self.root = root or path
        self._above = above | {path.resolve()}

    @property
    def name(self) -> str:
        """Its name."""
        return same_text(self.path.name)

    @cached_property
    def folders(self) -> dict[str, Folder]:
        """The folders in it, by name."""
        return dict(sorted(self._entries[0].items()))

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files in it, by name."""
        return dict(sorted(self._entries[1].items()))

    @cached_property
    def pictures(self) -> dict[str, Path]:
        """The pictures in it, by name."""
        return {name: path for name, path in self.files.items() if path.suffix.lower() in PICTURES}

    def all_pictures(self) -> Iterator[Path]:
        """The pictures in it and in all folders below, in order."""
        yield from self.pictures.values()
        for folder in self.folders.values():
            yield from folder.all_pictures()

    def has_pictures(self) -> bool:
        """Whether there is a picture in it or below."""
        return next(self.all_pictures(), None) is not None

    def key(self, path: Path) -> str:
        """The key of a file: its path from the source's root, alike on every system."""
        return key_of(path, self.root)

    @cached_property
    def _entries(self) -> tuple[dict[str, Folder], dict[str, Path]]:
        folders: dict[str, Folder] = {}
        files: dict[str, Path] = {}
        # Two names that only look the same (é in one letter, or in two) are two entries: composed ones come first and
        # the other keeps its own spelling.
        for entry in sorted(_entries_of(self.path), key=lambda entry: entry.name != same_text(entry.name)):
            if is_hidden(entry.name):
                continue
            path = Path(entry.path)
            name = same_text(entry.name)
            name = entry.name if name in folders or name in files else name
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link that leads to itself
                continue
            if not is_folder:
                files[name] = path
            elif path.resolve() not in self._above:
                folders[name] = Folder(path, self.root, self._above)
        return folders, files


def key_of(path: Path, root: Path) -> str:
    """The path from a root, with slashes and in composed letters."""
    return same_text(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())


def contents_in_words(folder: Folder) -> str:
    """What is in a folder, for a message: `3 folders (a, b, c), 12 .heic, 1 .txt`."""
    kinds: dict[str, int] = {}
    for path in folder.files.values():
        kind = path.suffix.lower() or "without ending"
        kinds[kind] = kinds.get(kind, 0) + 1
    words = [f"{count:,} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1])[:5]]
    if folder.folders:
        names = list(folder.folders)
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        words.insert(0, f"{len(names):,} folder{'s' * (len(names) > 1)} ({some})")
    return ", ".join(words) or "nothing"


def opened(path: Path) -> Folder:
    """The folder in which the data begin: of folders that hold nothing but one other, the innermost."""
    if not path.is_dir():
        raise LayoutError(f"{path} is not a folder.")
    folder = Folder(path)
    while len(folder.folders) == 1 and not folder.files:
        inner = next(iter(folder.folders.values()))
        if inner.pictures or not inner.folders or not _is_wrapping(inner):
            break
        folder = Folder(inner.path)
    return folder


def _is_wrapping(inner: Folder) -> bool:
    from lumora.data.split_names import split_of

    return split_of(inner.name) is None


def _entries_of(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise UnreadableError(
            f"The folder {path} cannot be listed: {error.strerror}. Give yourself the right to read it (chmod +rx), or "
            "move it elsewhere."
        ) from error
