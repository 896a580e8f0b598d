"""Predictions that an earlier call has written: which files are its own, and which of them are whole."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lumora.data.listing import is_left_by_system
from lumora.errors import OutputError

ABOUT, LINES, MASKS, OVERLAYS, WORK = "predictions.json", "predictions.jsonl", "masks", "overlays", ".lumora"
MARK = "lumora_predictions"
_ENDS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9"}
"""How whole files end."""


def own_files(folder: Path, *, resume: bool = False) -> list[Path]:
    """The files that an earlier call has written there; an error if there are any others but what systems leave.

    With `resume`, masks and overlays that no line names are no error either: when a machine loses its power, the last
    lines may be lost and their files not. They are left, and replaced when their pictures are done again.
    """
    if not os.path.lexists(folder):
        return []
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file; name a folder that is not there yet.")
    found = [Path(where, name) for where, _, names in os.walk(folder) for name in names if not is_left_by_system(name)]
    found += [
        Path(where, name) for where, names, _ in os.walk(folder) for name in names if Path(where, name).is_symlink()
    ]
    ours = about_there(folder) is not None
    own = {folder / name for name in _listed(folder)} if ours else set[Path]()
    own |= set(_of_cut_line(folder, found)) if ours else set()
    own |= set(filter(partial(_may_be_ours, folder), found)) if ours and resume else set()
    if others := sorted(path.relative_to(folder).as_posix() for path in found if not _is_own(path, folder, own)):
        more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
        raise OutputError(
            f"{folder} holds other things ({', '.join(others[:3])}{more}), which are not touched; name a folder that "
            "is not there yet."
        )
    return found


def _is_own(path: Path, folder: Path, own: set[Path]) -> bool:
    in_work = path.parent == folder / WORK and not path.parent.is_symlink()
    return path in own or (in_work and not path.is_symlink())


def _may_be_ours(folder: Path, path: Path) -> bool:
    """Whether a file lies where masks or overlays are written, and ends as they do."""
    places = {MASKS: ".png", OVERLAYS: ".jpg"}
    return places.get(path.relative_to(folder).parts[0]) == path.suffix and not path.is_symlink()


def _of_cut_line(folder: Path, found: list[Path]) -> list[Path]:
    """Files of the picture whose line was cut off, when the machine stopped; they have its name."""
    try:
        with (folder / LINES).open("rb") as file:
            last = next(iter(deque(file, maxlen=1)), b"")
    except OSError:
        return []
    key = re.match(rb'\{"picture": ("(?:[^"\\]|\\.)*")', last)
    if last.endswith(b"\n") or key is None:
        return []
    stem = Path(json.loads(key[1])).stem
    places = (folder / MASKS, folder / OVERLAYS)
    return [
        path
        for path in found
        if path.name.startswith(stem) and any(path.is_relative_to(place) for place in places) and not path.is_symlink()
    ]


def about_there(folder: Path) -> dict[str, Any] | None:
    """What the predictions in a folder say of how they were made; None where there are none."""
    try:
        content = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and MARK in content else None


def lines_in(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a list of predictions, without what was cut off when a call was killed."""
    try:
        file = (folder / LINES).open("rb")
    except OSError:
        return
    with file:
        for line in file:
            try:
                values = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                continue
            if isinstance(values, dict):
                yield values


def files_of(line: dict[str, Any]) -> list[str]:
    """The files that a line names."""
    parts = [line, *_of_bundles(line).values()]
    named = [part.get(key) for part in parts for key in ("mask", "overlay")]
    return [name for name in named if isinstance(name, str)]


def stems_of(line: dict[str, Any]) -> set[str]:
    """The names that a line's files have in their folders, without endings."""
    places = [(f"{MASKS}/", line.get("mask")), (f"{OVERLAYS}/", line.get("overlay"))]
    places += [(f"{MASKS}/{name}/", part.get("mask")) for name, part in _of_bundles(line).items()]
    return {
        file.removeprefix(place).rpartition(".")[0]
        for place, file in places
        if isinstance(file, str) and file.startswith(place)
    }


def _of_bundles(line: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each of several bundles says."""
    parts = line.get("bundles")
    return {name: part for name, part in parts.items() if isinstance(part, dict)} if isinstance(parts, dict) else {}


def keep_what_is_whole(folder: Path, take: Callable[[dict[str, Any]], None]) -> None:
    """Leave in a folder the lines of pictures that are done, with their files, and nothing else.

    What is not done: pictures that could not be read, and those whose files are missing or end too early.
    """
    new = folder / WORK / LINES
    cut = _of_cut_line(folder, [path for place in (MASKS, OVERLAYS) for path in (folder / place).rglob("*")])
    with new.open("w", encoding="utf-8") as file:
        for line in lines_in(folder):
            inside = [folder / name for name in files_of(line) if _is_inside(folder / name, folder)]
            if isinstance(line.get("picture"), str) and "error" not in line and all(map(_is_whole, inside)):
                file.write(json.dumps(line) + "\n")
                take(line)
            else:
                for path in inside:
                    path.unlink(missing_ok=True)
    listed = {name for line in lines_in(folder) for name in files_of(line)} if cut else set[str]()
    for path in cut:
        if path.relative_to(folder).as_posix() not in listed:
            path.unlink(missing_ok=True)
    new.replace(folder / LINES)


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _is_whole(path: Path) -> bool:
    """Whether a picture was written to its end."""
    end = _ENDS.get(path.suffix, b"")
    try:
        with path.open("rb") as file:
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except OSError:
        return False


def _listed(folder: Path) -> Iterator[str]:
    yield from (ABOUT, LINES)
    for line in lines_in(folder):
        yield from files_of(line)
