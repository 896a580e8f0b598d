"""Where commands may write folders: nothing that somebody has put there is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import typer

from lumora.paths import at_home

_SHOWN = 3


def check_new(out: Path, *, is_ours: Callable[[Path], bool], replace: bool, apart_from: str | None = None) -> None:
    """Misuse unless a folder may be written there: it is new or empty, or holds what the command wrote before.

    Args:
        out: the folder.
        is_ours: whether a folder that is not empty is one that the command has written.
        replace: whether such a one may be replaced.
        apart_from: what is read, which must not be written over.
    """
    if apart_from is not None and _is_within(out, at_home(apart_from)):
        _refuse(f"{out} is, or lies in, {apart_from}, which is read; name another folder.")
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        _refuse(f"{out} is a file; name a folder that is not there yet.")
    found = sorted(path.name for path in out.iterdir())
    if not found:
        return
    if not is_ours(out):
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        _refuse(
            f"{out} holds other things ({', '.join(found[:_SHOWN])}{more}), which would be lost; name a folder that is "
            "not there yet."
        )
    if not replace:
        _refuse(f"{out} is there already; name another folder, or replace it with --force.")


def is_marked(folder: Path, file: str, mark: str) -> bool:
    """Whether a folder was written whole by Lumora, nothing was added, and a JSON file in it has this key."""
    import json

    try:
        content = json.loads((folder / file).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and mark in content and has_only_what_was_written(folder)


def has_only_what_was_written(folder: Path) -> bool:
    """Whether nothing lies in a folder but what its manifest names, and what systems leave in folders."""
    from lumora.data.listing import is_left_by_system
    from lumora.data.manifest import MANIFEST, names_in

    inside = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not (path.is_dir() or is_left_by_system(path.name))
    }
    named = names_in(folder)
    return named is not None and inside <= {*named, MANIFEST}


def _is_within(out: Path, other: Path) -> bool:
    return other.exists() and out.resolve().is_relative_to(other.resolve())


def _refuse(text: str) -> None:
    raise typer.BadParameter(text, param_hint="--out")
