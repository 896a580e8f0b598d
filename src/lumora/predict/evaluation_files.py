"""An evaluation as files.

metrics.json   the scores, what was measured, and the worst samples
classes.csv    a line for each class
worst/         the worst samples with what was said of them, the very worst first
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from lumora.data.durable import write_folder
from lumora.predict.files import encoded_drawing

METRICS, CLASSES, WORST = "metrics.json", "classes.csv", "worst"
MARK = "lumora_evaluation"
_FORMAT = 1


def write_evaluation(folder: Path, values: Mapping[str, Any], drawings: Iterable[tuple[str, Tensor]]) -> None:
    """Write an evaluation whole or not at all, in the place of an earlier one.

    Args:
        folder: new, or one that this function has written.
        values: what JSON knows; `per_class` and `labels` become the table.
        drawings: of the worst samples, each with the sample's name.
    """

    def fill(place: Path) -> None:
        content = json.dumps({MARK: _FORMAT, **values}, indent=2) + "\n"
        (place / METRICS).write_text(content, encoding="utf-8")
        (place / CLASSES).write_text(_table(values["labels"], values["per_class"]), encoding="utf-8")
        for number, (name, pixels) in enumerate(drawings, 1):
            (place / WORST).mkdir(exist_ok=True)
            (place / WORST / drawing_name(number, name)).write_bytes(encoded_drawing(pixels))

    write_folder(folder, fill)


def drawing_name(number: int, sample: str) -> str:
    """The name of a drawing's file: its place and the sample's.

    >>> drawing_name(3, "test/otter/12.png")
    '03-12.jpg'
    """
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in PurePosixPath(sample).stem)
    return f"{number:02}-{stem[:60]}.jpg"


def _table(labels: Iterable[str], per_class: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each class; cells stay empty where there is no number."""
    columns = list(dict.fromkeys(column for numbers in per_class.values() for column in numbers))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", *columns])
    for name in labels:
        writer.writerow([name, *("" if (v := per_class.get(name, {}).get(c)) is None else v for c in columns)])
    return text.getvalue()
