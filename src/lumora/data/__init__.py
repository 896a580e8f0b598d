"""From folders, tables and datasets to samples: pictures with their labels or masks, read on demand."""

from lumora.data.labels import IGNORE, Labels
from lumora.data.masks import Coding
from lumora.data.reading import Limits, read_header, read_mask, read_picture
from lumora.data.sample import Sample, Source, StoredSample
from lumora.data.sources import open_source

__all__ = [
    "IGNORE",
    "Coding",
    "Labels",
    "Limits",
    "Sample",
    "Source",
    "StoredSample",
    "open_source",
    "read_header",
    "read_mask",
    "read_picture",
]
