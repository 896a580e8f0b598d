"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path with the user's folder in place of `~`, which a shell leaves as it is behind `=` or in quotes."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody is called so; a whole path is not taken for a user's later either
        return Path(path).absolute()
