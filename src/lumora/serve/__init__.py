"""Many bundles over one loaded base, for programs and over HTTP.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

if TYPE_CHECKING:
    from lumora.serve.hosting.pool import Pool as Pool

_HOMES = {
    "Pool": "hosting.pool",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
