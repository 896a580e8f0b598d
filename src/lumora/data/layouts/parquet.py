"""Parquet files that hold the pictures themselves, as the Hub keeps datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumora.data.layouts.base import Found, Layout, Wishes
from lumora.data.layouts.rows import read_rows
from lumora.data.listing import Folder
from lumora.data.split_names import split_of
from lumora.data.table_files import holds_files
from lumora.errors import LayoutError


def _sees(place: Folder | Path) -> bool:
    return any(holds_files(path) for path in _shards(place)[:1])


def _read(place: Folder | Path, wishes: Wishes) -> Found:
    import datasets

    shards = _shards(place)
    splits: dict[str, list[str]] = {}
    for path in shards:
        splits.setdefault(_split(path) or "all", []).append(str(path))
    if len(splits) > 1:
        splits.pop("all", None)
    try:
        data = datasets.load_dataset("parquet", data_files=splits)
    except Exception as error:  # damaged files raise all sorts
        raise LayoutError(
            f"The Parquet files {shards[0].parent} cannot be read: {error}. Copy or download them again."
        ) from error
    rows = data["all"] if list(splits) == ["all"] else data
    return read_rows(rows, wishes, "Parquet files with the pictures in them", str(shards[0].parent))


def _shards(place: Folder | Path) -> Sequence[Path]:
    if isinstance(place, Path):
        return [place] if place.suffix.lower() == ".parquet" else []
    inside = [place, *place.folders.values()]
    return [path for folder in inside for path in folder.files.values() if path.suffix.lower() == ".parquet"]


def _split(path: Path) -> str | None:
    """From `train-00000-of-00001.parquet` or `train/0000.parquet`."""
    return split_of(path.stem.partition("-")[0]) or split_of(path.parent.name)


PARQUET = Layout("parquet", "Parquet files with the pictures in them", _sees, _read, files=True, columns=True)
