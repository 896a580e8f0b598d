"""A page in the browser for the whole way: data, training, results, predictions, bundles. It works without a network.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

if TYPE_CHECKING:
    from lumora.studio.serving import Served as Served
    from lumora.studio.serving import serve as serve

_HOMES = {"Served": "serving", "serve": "serving"}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
