"""A `Dataset` or `DatasetDict` of the `datasets` library, at hand."""

from __future__ import annotations

from typing import Any

from lumora.data.layouts.base import Found, Layout, Wishes
from lumora.data.layouts.rows import is_dataset, read_rows


def _read(data: Any, wishes: Wishes) -> Found:
    return read_rows(data, wishes, f"a {type(data).__name__}", "the dataset")


IN_MEMORY = Layout("in-memory", "a Dataset or DatasetDict", is_dataset, _read, columns=True)
