"""The pictures that a command is given: files, folders, patterns, and `-` for a list on the standard input."""

from __future__ import annotations

import glob
import itertools
import os
import sys
from collections.abc import Sequence
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
    """Pictures, each once, and the folders that they were looked for in, whatever lies there."""

    pictures: list[Picture]
    folders: list[Path]


def find(given: Sequence[str], limits: Limits) -> Given:
    """Find the pictures; misuse where there are none, or something that was named is not there.

    What is missing of a list on the standard input is told as pictures that cannot be read are.
    """
    from lumora.predict.pictures import at_home, without_dots

    found: dict[Path, Picture] = {}
    folders: list[Path] = []
    for one in given:
        place = at_home(one)
        if one == LIST:
            paths = _paths_on_input()
            pictures = _listed(paths, limits)
            folders += [folder for path in paths if os.path.isdir(folder := at_home(path))]  # noqa: PTH112 - no errors
        elif os.path.lexists(place) or not glob.has_magic(one):
            pictures = _named(one, limits)
            if place.is_dir():
                folders.append(place)
        else:
            folders += _looked_through(place)
            pictures = _matching(one, limits)
        for picture in pictures:
            found.setdefault(without_dots(Path(picture.key)), picture)
    return Given(list(found.values()), folders)


def _looked_through(pattern: Path) -> list[Path]:
    """The folder of which a pattern takes files at any depth, and so what is written into it later."""
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    return [Path(*fixed)] if "**" in pattern.parts else []


def _named(path: str, limits: Limits) -> list[Picture]:
    from lumora.data.content import unopened
    from lumora.predict.pictures import at_home, pictures

    try:
        if not at_home(path).exists():
            raise typer.BadParameter(f"There is no file or folder {path}.", param_hint=_HINT)
        return list(pictures(path, limits))
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint=_HINT) from error
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise typer.BadParameter(str(unopened(at_home(path), error)), param_hint=_HINT) from error


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
