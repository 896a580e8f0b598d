"""What a sample, a loss, a metric, a prediction and a drawing of each task are."""

from __future__ import annotations

from typing import Any

from lumora.data.sample import Source
from lumora.tasks.base import Task
from lumora.tasks.classification import Classification, LabelPrediction, MultiLabel
from lumora.tasks.segmentation import MaskPrediction, Segmentation

TASKS: dict[str, type[Task[Any]]] = {task.name: task for task in (Classification, MultiLabel, Segmentation)}
"""Every task by its name. A new one is a file with a class and an entry here."""


def task_for(source: Source) -> Task[Any]:
    """The task of a source, with its labels and the usual settings."""
    return TASKS[source.task](source.labels)


__all__ = [
    "TASKS",
    "Classification",
    "LabelPrediction",
    "MaskPrediction",
    "MultiLabel",
    "Segmentation",
    "Task",
    "task_for",
]
