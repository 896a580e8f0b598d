"""Bases of libraries that Lumora's own packages do not know: whoever does registers how their bundles are loaded."""

from __future__ import annotations

from importlib import metadata
from typing import Any

GROUP = "lumora.bundles"
"""The group of entry points: a library's name, and a function that `lumora.bundle.reading.put_together` calls."""


def reader_of(library: str) -> Any:
    """What loads the bundles of a library's bases; None where nobody has registered anything."""
    found = [entry for entry in metadata.entry_points(group=GROUP) if entry.name == library]
    return found[0].load() if found else None
