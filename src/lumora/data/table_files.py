"""Tables in files, as columns: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lumora.data.content import unopened
from lumora.errors import DataError

Columns = dict[str, list[Any]]

TEXT_TABLES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
TABLES = TEXT_TABLES | {".parquet"}
"""Endings of files that are tables."""


def read_table(path: Path, rows: int | None = None) -> Columns:
    """The columns of a table; of a column of Parquet that holds whole files, only the heading.

    Args:
        path: a file whose ending is one of `TABLES`.
        rows: how many rows to read; all if None.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            return _parquet(path, rows)
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = file.readlines() if rows is None else [line for line, _ in zip(file, range(rows + 1), strict=False)]
        return _json_lines(lines[:rows], path) if ending in (".jsonl", ".ndjson") else _separated(lines, path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error.reason}. Save the table as UTF-8.") from error
    except OSError as error:
        raise unopened(path, error) from error


def _separated(lines: Sequence[str], path: Path) -> Columns:
    if not lines:
        return {}
    separator = "\t" if path.suffix.lower() == ".tsv" else max((",", ";", "\t"), key=lines[0].count)
    rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    headings = [heading.strip() for heading in rows[0]]
    if len(set(headings)) < len(headings):
        raise DataError(f"{path} has two columns of the same name; give each its own.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(headings):
            raise DataError(
                f"Row {number} of {path} has {len(row)} cells, and the heading {len(headings)}. Is there a "
                f"{separator!r} in a cell? Put such cells into quotation marks."
            )
    return {heading: [row[i].strip() for row in rows[1:]] for i, heading in enumerate(headings)}


def _json_lines(lines: Sequence[str], path: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"Line {number} of {path} is not valid JSON: {error}.") from error
        if not isinstance(row, dict):
            raise DataError(f"Line {number} of {path} is not an object; write {{'path': …, 'label': …}} on each line.")
        rows.append(row)
    headings = list(dict.fromkeys(key for row in rows for key in row))
    return {heading: [row.get(heading) for row in rows] for heading in headings}


def _parquet(path: Path, rows: int | None) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        plain = [field.name for field in file.schema_arrow if not _holds_files(field.type)]
        if rows is None:
            table = file.read(plain)
        else:
            table = next(iter(file.iter_batches(rows, columns=plain)), None)
        columns = {name: table[name].to_pylist() if table is not None else [] for name in plain}
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error}.") from error
    return columns


def holds_files(path: Path) -> bool:
    """Whether a Parquet file has a column with the pictures themselves, as `datasets` writes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return any(_holds_files(field.type) for field in pq.read_schema(path))
    except (pa.ArrowException, OSError):
        return False


def _holds_files(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_struct(kind) and {field.name for field in kind} >= {"bytes", "path"}
