"""Measuring a Keras model with a task's metrics: batch by batch, in constant memory, as in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lumora.errors import MetricError
from lumora.integrations.keras.in_torch import logits_from
from lumora.integrations.keras.library import Model, keras
from lumora.integrations.keras.logits import check_gives_logits
from lumora.integrations.keras.preprocessor import refuse_preprocessor
from lumora.integrations.keras.values import channels_last
from lumora.tasks import Task
from lumora.tasks.evaluating import proved
from lumora.tasks.metrics import Scores

Batches = Iterable[Any]
"""A `tf.data.Dataset`, a `PyDataset`, a `lumora.data.Loader`, or anything that gives batches of pictures and labels."""


def evaluate(model: Model, task: Task[Any], data: Batches, *, seen: Callable[[int], None] | None = None) -> Scores:
    """A task's scores of a model. The metrics prove themselves first, see `lumora.tasks.selftest`.

    Keeps counts only, whatever the number of pictures. The model must give logits: without a softmax at its end.

    Args:
        model: the Keras model.
        task: whose metrics count.
        data: batches of (pictures, labels) with channels last, or a `Loader`.
        seen: is told how many pictures are done, after every batch.
    """
    check_gives_logits(model)
    metrics = task.new_metrics()
    done = 0
    for batch in proved(task, _plain(data)):
        metrics.update(logits_from(model, batch["pixel_values"]), batch["labels"])
        done += len(batch["labels"])
        if seen is not None:
            seen(done)
    return metrics.compute()


class MetricCallback(keras.callbacks.Callback):
    """Measures a model after each epoch of `fit`, and puts the scores into its logs as `val_mean_iou` and so on.

    Callbacks after it in the list can choose by them: `EarlyStopping(monitor="val_mean_iou", mode="max")`.

    Args:
        task: whose metrics count.
        data: what is measured on, see `evaluate`.
        prefix: how the names in the logs begin.
        every: how many epochs lie between two measurements.
    """

    def __init__(self, task: Task[Any], data: Batches, *, prefix: str = "val_", every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise MetricError(f"every is {every}; it must be at least 1.")
        self.task, self.data, self.prefix, self.every = task, data, prefix, every
        self.scores: Scores | None = None
        """The latest, with a table of the classes."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse a model that would learn from other pictures than it is measured with."""
        refuse_preprocessor(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, and add to the logs."""
        if (epoch + 1) % self.every:
            return
        self.scores = evaluate(self.model, self.task, self.data)
        if logs is not None:
            logs.update({f"{self.prefix}{name}": value for name, value in self.scores.items()})


def _plain(data: Batches) -> Iterator[dict[str, Any]]:
    """Every batch as pictures (N, H, W, 3) in numpy, and labels in torch."""
    for batch in _each(data):
        if isinstance(batch, Mapping):
            pixels: Any = batch["pixel_values"]
            yield {"pixel_values": _last(pixels), "labels": batch["labels"]}
        elif isinstance(batch, tuple | list) and len(batch) >= 2:
            yield {"pixel_values": _numpy(batch[0]), "labels": torch.from_numpy(np.array(_numpy(batch[1])))}
        else:
            raise MetricError(
                f"A batch is {type(batch).__name__}; it should be (pictures, labels), as to_tf_dataset and "
                "PictureDataset give them."
            )


def _each(data: Any) -> Iterator[Any]:
    if isinstance(data, keras.utils.PyDataset):
        return (data[i] for i in range(len(data)))  # its own iteration never ends
    return iter(data)


def _last(pixels: Any) -> Any:
    if isinstance(pixels, list):
        raise MetricError("The pictures of a batch have different sizes; give the transform a step that sets one size.")
    return channels_last(pixels)


def _numpy(value: Any) -> np.ndarray[Any, Any]:
    return value.cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
