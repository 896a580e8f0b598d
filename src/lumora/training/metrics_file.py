"""The measurements of a run, one JSON object a line, such that a kill costs no more than the line it fell into."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lumora.errors import RunError


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row, which others can read from now on. A number that is not finite becomes null, as JSON has none.

    A row that finds no room is not there in part.
    """
    line = (json.dumps(_finite(row), allow_nan=False) + "\n").encode()
    try:
        with path.open("ab", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}. Mend this, then resume the run.") from error


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are whole; none when there is no file."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise RunError(f"Line {number} of {path} is no JSON object; remove it and start again.")
        rows.append(row)
    return rows


def keep_rows(path: Path, count: int) -> None:
    """Cut off all but the first rows, and what is left of a line that was not written whole."""
    lines = _lines(path)[:count]
    length = sum(len(line) for line in lines)
    try:
        if path.exists() and path.stat().st_size > length:
            with path.open("rb+") as file:
                file.truncate(length)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}. Mend this, then resume the run.") from error


def count_rows(path: Path) -> int:
    """How many rows are whole."""
    return len(_lines(path))


def sync(path: Path) -> None:
    """Bring the rows to the disk, so that they outlive the machine's end too."""
    try:
        if path.exists():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}. Mend this, then resume the run.") from error


def _lines(path: Path) -> list[bytes]:
    """The lines that are whole, with their ends."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from error
    return [line + b"\n" for line in lines[:-1]]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inside) for inside in value]
    return value
