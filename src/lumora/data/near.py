"""What a path that does not exist may have been meant to be."""

from __future__ import annotations

import difflib
from pathlib import Path


def near(path: Path) -> str:
    """A sentence with the name beside it that is nearest; nothing where none is near."""
    parent = path.parent
    if not parent.is_dir():
        return f" There is not even {parent}."
    try:
        found = difflib.get_close_matches(path.name, [each.name for each in parent.iterdir()], n=1)
    except OSError:  # one may go through it, but not list it
        return ""
    return f" Did you mean {parent / found[0]}?" if found else ""
