"""Labels in the cells of tables: one, or several in a list or in one string."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lumora.data.layouts.base import RawLabel
from lumora.data.sample import TaskName


def labels_of_cells(cells: Sequence[Any], task: TaskName | None, notes: list[str]) -> list[RawLabel]:
    """What the cells of a label column say; several labels in a cell become a tuple."""
    if any(isinstance(cell, list | tuple) for cell in cells):
        return [_several(cell) for cell in cells]
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    if task != "classification" and texts and all(re.fullmatch(r"\[.*\]", text.strip()) for text in texts):
        return [_several(_parsed(cell)) for cell in cells]
    separator = None if task == "classification" else _separator(texts, task)
    if separator is not None:
        if task is None:
            notes.append(
                f"Cells like {next(text for text in texts if separator in text)!r} are read as several labels; if each "
                "is one, say task='classification'."
            )
        return [_several([part.strip() for part in str(cell or "").split(separator)]) for cell in cells]
    if task == "multilabel":
        return [_several([] if cell is None else [cell]) for cell in cells]
    return [_one(cell) for cell in cells]


def labels_of_flags(columns: Mapping[str, Sequence[Any]], flags: Sequence[str]) -> list[RawLabel]:
    """The names of the columns that have a 1 in each row."""
    rows = zip(*(columns[name] for name in flags), strict=True)
    return [tuple(name for name, on in zip(flags, row, strict=True) if str(on) in ("1", "1.0", "True")) for row in rows]


def _separator(texts: Sequence[str], task: TaskName | None) -> str | None:
    """What stands between labels, if the parts come again in other cells (a name may have a comma in it)."""
    for separator in ("|", ";", ",", *((" ",) if task == "multilabel" else ())):
        if not any(separator in text for text in texts):
            continue
        parts = {part.strip() for text in texts for part in text.split(separator)}
        if separator in "|;" or task == "multilabel" or len(parts) < len(set(texts)):
            return separator
    return None


def _several(cell: Any) -> tuple[str | int, ...]:
    if cell is None:
        return ()
    values = [_one(value) for value in (cell if isinstance(cell, list | tuple) else [cell])]
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str | int)))


def _one(cell: Any) -> str | int | None:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int) or (isinstance(cell, float) and cell.is_integer()):
        return int(cell)
    return str(cell).strip() or None


def _parsed(cell: Any) -> list[Any]:
    """A list written as text, `["a", "b"]` or `['a', 'b']`."""
    if not cell:
        return []
    try:
        value = json.loads(cell)
    except ValueError:
        value = [part.strip(" '\"") for part in cell.strip()[1:-1].split(",")]
    return [part for part in value if part != ""]
