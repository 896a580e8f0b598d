"""Where a run's data lay when it began, in a file beside its recipe.

A recipe names data as they were typed, which leads elsewhere from another folder, or nowhere, where it could be taken
for a name on the Hub. The recipe itself stays as it was asked for: the same one has the same hash wherever it is used.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lumora.data.durable import write_file
from lumora.paths import at_home

_FILE = ".place.json"


def note_place(run: str | os.PathLike[str], typed: str | None, now: str | os.PathLike[str] | None = None) -> None:
    """Note the absolute place of the data of a run, if they are files that the recipe names by another path.

    Args:
        run: its folder.
        typed: how its recipe names them; None where they were at hand in Python.
        now: where they lie, if not there.
    """
    if typed is None:
        return
    path = at_home(typed if now is None else now)
    if path.exists() and str(path.absolute()) != typed:
        text = json.dumps({"data": typed, "place": str(path.absolute())}, indent=2)
        write_file(Path(run) / _FILE, text.encode())


def place_of_data(run: str | os.PathLike[str], typed: str | None) -> str | None:
    """Where the data of a run are to be looked for from here.

    That is where they lay when it began; if they are gone from there, what the recipe says, if that leads to anything
    here. What was a path once is never a name on the Hub.

    Args:
        run: its folder.
        typed: how its recipe names them.
    """
    noted = _noted(run)
    if typed is None or noted is None or noted[0] != typed:
        return typed
    return typed if not Path(noted[1]).exists() and at_home(typed).exists() else noted[1]


def place_from_here(run: str | os.PathLike[str], typed: str) -> str:
    """The same for what is to be read as it is typed wherever that leads to something."""
    return typed if at_home(typed).exists() else place_of_data(run, typed) or typed


def _noted(run: str | os.PathLike[str]) -> tuple[str, str] | None:
    """How the recipe names the data, and where they lay."""
    try:
        found: Any = json.loads((Path(run) / _FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    typed, place = found.get("data"), found.get("place")
    return (typed, place) if isinstance(typed, str) and isinstance(place, str) and place else None
