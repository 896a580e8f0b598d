"""Each class's own measures, the class that does worst first."""

from __future__ import annotations

from dataclasses import dataclass

from lumora.data.labels import Colour, Labels
from lumora.data.sample import TaskName
from lumora.tasks.metrics.base import Scores

_FIRST = {
    "classification": ("f1", "precision", "recall"),
    "multilabel": ("auroc", "f1", "precision", "recall"),
    "segmentation": ("iou", "accuracy"),
}
"""What each task's table shows first, with bars."""
COUNTED = ("support",)
"""Measures that are counts and not shares."""


@dataclass(frozen=True)
class ClassRow:
    """One class."""

    name: str
    colour: Colour | None
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class ClassTable:
    """All classes."""

    measures: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    absent: tuple[str, ...]
    """Classes that neither occur nor were said."""


def class_table(scores: Scores, labels: Labels, task: TaskName) -> ClassTable:
    """The table of what was measured of each class."""
    measured = scores.per_class
    others = dict.fromkeys(measure for row in measured.values() for measure in row)
    measures = tuple(dict.fromkeys((*_FIRST[task], *others)))
    colours = labels.palette() if task == "segmentation" else (None,) * len(labels)
    rows = [
        ClassRow(name, colour, tuple(measured[name].get(measure) for measure in measures))
        for name, colour in zip(labels.names, colours, strict=True)
        if measured.get(name)
    ]
    rows.sort(key=lambda row: 2.0 if row.values[0] is None else row.values[0])
    return ClassTable(measures, tuple(rows), tuple(name for name in labels.names if not measured.get(name)))
