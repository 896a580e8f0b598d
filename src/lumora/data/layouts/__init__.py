"""The ways in which data may lie. A new one is a file here and a line in `LAYOUTS`."""

from __future__ import annotations

from lumora.data.layouts.ade20k import ADE20K
from lumora.data.layouts.base import Found, Item, Layout, Wishes
from lumora.data.layouts.class_folders import CLASS_FOLDERS
from lumora.data.layouts.hub import HUB
from lumora.data.layouts.image_masks import IMAGE_MASKS
from lumora.data.layouts.in_memory import IN_MEMORY
from lumora.data.layouts.parquet import PARQUET
from lumora.data.layouts.saved import SAVED
from lumora.data.layouts.tables import TABLE
from lumora.data.layouts.voc import VOC
from lumora.data.layouts.webdataset import WEBDATASET

LAYOUTS = (SAVED, VOC, ADE20K, WEBDATASET, PARQUET, TABLE, IMAGE_MASKS, CLASS_FOLDERS)
"""Of files and folders; the first that sees itself in the data reads them."""

ELSEWHERE = (IN_MEMORY, HUB)
"""Of data that are not here as files."""

NAMED = {each.name: each for each in (*LAYOUTS, *ELSEWHERE)}
"""All of them, by the name that `layout=` knows."""

__all__ = ["ELSEWHERE", "HUB", "LAYOUTS", "NAMED", "TABLE", "Found", "Item", "Layout", "Wishes"]
