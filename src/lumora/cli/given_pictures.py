"""The pictures that a command is given: files, folders, patterns, and `-` for a list on the standard input."""

from __future__ import annotations

import fnmatch
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lumora.errors import DataError

if TYPE_CHECKING:
    from lumora.data import Limits
    from lumora.predict.pictures import Picture

LIST = "-"
_HINT = "PICTURES"


@dataclass(frozen=True)
class Given:
    """Pictures, each once, and the folders and patterns by which they were looked for."""

    pictures: list[Picture]
    folders: list[Path]
    patterns: list[Path]

    def folders_with(self, out: Path) -> list[Path]:
        """The folders in which predictions that are written to `out` would be looked for the next time."""
        return [*self.folders, *(root for pattern in self.patterns if (root := _root_if_it_reaches(pattern, out)))]


def find(given: Sequence[str], limits: Limits) -> Given:
    """Find the pictures; misuse where there are none, or something that was named is not there.

    What is missing of a list on the standard input is told as pictures that cannot be read are.
    """
    from lumora.predict.pictures import at_home, without_dots

    found: dict[Path, Picture] = {}
    folders: list[Path] = []
    patterns: list[Path] = []
    for one in given:
        place = at_home(one)
        if one == LIST:
            paths = _paths_on_input()
            pictures = _listed(paths, limits)
            folders += _folders_among(paths, pictures)
        elif place.exists() or not glob.has_magic(one):
            if place.is_dir():
                folders.append(place)
            pictures = _named(one, limits)
        else:
            patterns.append(place)
            pictures = _matching(one, limits)
        for picture in pictures:
            found.setdefault(without_dots(Path(picture.key)), picture)
    return Given(list(found.values()), folders, patterns)


def _root_if_it_reaches(pattern: Path, out: Path) -> Path | None:
    """The folder at which a pattern begins, if files that are written below `out` could fit it."""
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root, place = Path(*parts[:fixed]), out.resolve()
    within = place.is_relative_to(root.resolve())
    return root if within and _may_fit(parts[fixed:], place.relative_to(root.resolve()).parts) else None


def _may_fit(pattern: Sequence[str], folders: Sequence[str]) -> bool:
    """Whether files below a folder could fit a pattern; both are taken from the same root.

    >>> _may_fit(["**", "*.jpg"], ["out"]), _may_fit(["*", "*.jpg"], ["out"]), _may_fit(["*", "*", "*.jpg"], ["out"])
    (True, False, True)
    >>> _may_fit(["**", "*.jpg"], [".out"]), _may_fit(["a*", "**", "*.jpg"], ["out"])
    (False, False)
    """
    if pattern[0] == "**":
        goes_on = not folders or (not folders[0].startswith(".") and _may_fit(pattern, folders[1:]))
        return goes_on or (len(pattern) > 1 and _may_fit(pattern[1:], folders))
    if len(pattern) == 1:
        return False  # a file, and those that are written lie deeper
    if not folders:
        return True
    hidden = folders[0].startswith(".") and not pattern[0].startswith(".")
    return not hidden and fnmatch.fnmatch(folders[0], pattern[0]) and _may_fit(pattern[1:], folders[1:])


def _folders_among(paths: Sequence[str], pictures: Sequence[Picture]) -> list[Path]:
    """The folders of a list whose pictures were found."""
    from lumora.predict.pictures import Unusable, at_home

    usable = (Path(picture.key) for picture in pictures if not isinstance(picture, Unusable))
    above = {folder for path in usable for folder in _seen_from(path)}
    return [place for path in paths if (place := at_home(path)) in above]


def _seen_from(path: Path) -> Iterator[Path]:
    """The folders above a file, up to the one in which it is hidden."""
    from lumora.data.listing import is_hidden

    for name, folder in zip(reversed(path.parts), path.parents, strict=False):
        if is_hidden(name):
            return
        yield folder


def _named(path: str, limits: Limits) -> list[Picture]:
    from lumora.predict.pictures import at_home, pictures

    if not at_home(path).exists():
        raise typer.BadParameter(f"There is no file or folder {path}.", param_hint=_HINT)
    try:
        return list(pictures(path, limits))
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint=_HINT) from error


def _matching(pattern: str, limits: Limits) -> list[Picture]:
    """The pictures that fit a pattern which no shell has put into paths; `**` stands for any folders."""
    from lumora.data.listing import PICTURES
    from lumora.predict.pictures import at_home

    # As shells do it; pathlib's own patterns begin at a folder.
    paths = sorted(glob.glob(str(at_home(pattern)), recursive=True))  # noqa: PTH207
    fitting = [path for path in paths if Path(path).suffix.lower() in PICTURES and not Path(path).is_dir()]
    if not fitting:
        others = f"; {len(paths):,} other files or folders do" if paths else ""
        raise typer.BadParameter(f"No picture fits {pattern!r}{others}.", param_hint=_HINT)
    return _listed(fitting, limits)


def _paths_on_input() -> list[str]:
    """The paths on the standard input: one on each line, or with a zero byte behind each, as `find -print0` writes."""
    content = sys.stdin.buffer.read()
    entries = content.split(b"\0") if b"\0" in content else content.splitlines()
    if paths := [os.fsdecode(entry) for entry in entries if entry.strip()]:
        return paths
    raise typer.BadParameter("The list on the standard input is empty; write a path on each line.", param_hint=_HINT)


def _listed(paths: Sequence[str], limits: Limits) -> list[Picture]:
    """The pictures of a list; their names for files begin where their paths part."""
    from lumora.predict.pictures import listed

    return list(listed(paths, limits))
