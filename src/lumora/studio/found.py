"""Runs and bundles, found where they lie."""

from __future__ import annotations

from pathlib import Path

from lumora.bundle.names import ABOUT
from lumora.errors import LumoraError
from lumora.training.recipe import read_recipe
from lumora.training.whereabouts import place_of_data

_DEEP = 3
"""How many folders down runs are looked for."""


def run_folders(root: Path) -> list[Path]:
    """The folders of all runs in a folder, those begun last first."""
    return _newest([path.parent for path in _below(root, "recipe.yaml")], "recipe.yaml")


def bundle_folders(root: Path) -> list[Path]:
    """The folders of all bundles in a folder and its runs, those written last first."""
    return _newest([path.parent for path in _below(root, ABOUT)], ABOUT)


def data_of(run: Path) -> tuple[str, str] | None:
    """How the recipe of a run names its data, and where they are to be looked for; None where it names none."""
    try:
        typed = read_recipe(run / "recipe.yaml").data.path
    except LumoraError:
        return None
    return None if typed is None else (typed, place_of_data(run, typed) or typed)


def _below(root: Path, name: str) -> list[Path]:
    """Files of this name, not too deep and in no hidden folder."""
    patterns = ("/".join(["*"] * depth + [name]) for depth in range(_DEEP + 1))
    found = [path for pattern in patterns for path in root.glob(pattern)] if root.is_dir() else []
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def _newest(folders: list[Path], name: str) -> list[Path]:
    def time_of(folder: Path) -> float:
        try:
            return (folder / name).stat().st_mtime
        except OSError:  # removed meanwhile
            return 0.0

    return sorted(folders, key=lambda folder: (-time_of(folder), str(folder)))
