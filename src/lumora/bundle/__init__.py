"""A bundle: a folder that holds an adapter and everything needed to use it, checked before it is called saved.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

if TYPE_CHECKING:
    from lumora.bundle.about import About as About
    from lumora.bundle.about import BaseReference as BaseReference
    from lumora.bundle.about import Method as Method
    from lumora.bundle.reading import Loaded as Loaded
    from lumora.bundle.reading import load as load
    from lumora.bundle.reading import read_about as read_about
    from lumora.bundle.verify import written_and_verified as written_and_verified
    from lumora.bundle.writing import write as write

_HOMES = {
    "About": "about",
    "BaseReference": "about",
    "Loaded": "reading",
    "Method": "about",
    "load": "reading",
    "read_about": "reading",
    "write": "writing",
    "written_and_verified": "verify",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
