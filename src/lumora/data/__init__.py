"""From folders, tables and datasets to samples: pictures with their labels or masks, read on demand.

Importing this package imports nothing else: each name below is fetched when it is first used. `doctor`, `scenes` and
`transforms` are packages of their own in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

if TYPE_CHECKING:
    from lumora.data.cache import Cache as Cache
    from lumora.data.cache import CacheState as CacheState
    from lumora.data.dataset import Pictures as Pictures
    from lumora.data.known_labels import ade20k as ade20k
    from lumora.data.known_labels import voc as voc
    from lumora.data.labels import IGNORE as IGNORE
    from lumora.data.labels import Labels as Labels
    from lumora.data.loader import Loader as Loader
    from lumora.data.masks import Coding as Coding
    from lumora.data.reading import Limits as Limits
    from lumora.data.reading import read_header as read_header
    from lumora.data.reading import read_mask as read_mask
    from lumora.data.reading import read_picture as read_picture
    from lumora.data.sample import Sample as Sample
    from lumora.data.sample import Source as Source
    from lumora.data.sample import StoredSample as StoredSample
    from lumora.data.sources import open_source as open_source

_HOMES = {
    "IGNORE": "labels",
    "Cache": "cache",
    "CacheState": "cache",
    "Coding": "masks",
    "Labels": "labels",
    "Limits": "reading",
    "Loader": "loader",
    "Pictures": "dataset",
    "Sample": "sample",
    "Source": "sample",
    "StoredSample": "sample",
    "ade20k": "known_labels",
    "open_source": "sources",
    "read_header": "reading",
    "read_mask": "reading",
    "read_picture": "reading",
    "voc": "known_labels",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
