"""Measuring a model on pictures with labels: one way for training, and for whoever uses what was trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lumora.data.sample import TaskName
from lumora.tasks.base import Task, logits_of
from lumora.tasks.memory import is_about_memory
from lumora.tasks.metrics.base import Metrics
from lumora.tasks.selftest import self_test

Batch = Mapping[str, Any]

_AT_ONCE = {"segmentation": 4}
_USUALLY = 32
_TESTED_ON = 2


def usual_batch_size(task: TaskName) -> int:
    """How many pictures are measured at once, where nobody says.

    >>> usual_batch_size("classification")
    32
    """
    return _AT_ONCE.get(task, _USUALLY)


def proved(task: Task[Any], batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches, once the metrics have proved themselves on the first ones; see `self_test`."""
    rest = iter(batches)
    first = list(itertools.islice(rest, _TESTED_ON))
    if first:
        self_test(task, first)
    while first:
        yield first.pop(0)  # so that no more than is waited for is held
    yield from rest


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task[Any],
    batches: Iterable[Batch],
    *,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    seen: Callable[[int], None] = lambda pictures: None,
    beside: Callable[[Tensor, Any], None] = lambda logits, targets: None,
) -> Metrics:
    """A task's metrics after all batches, not yet added up with other processes'. Modes are as before afterwards.

    Args:
        model: gives logits for `batch["pixel_values"]`, which are compared with `batch["labels"]`.
        task: whose metrics count.
        batches: as a `Loader` gives them.
        precision: what the model computes in.
        seen: is told how many pictures are done, after every batch.
        beside: looks at the logits and targets of every batch, too.
    """
    metrics = task.new_metrics()
    modes = {module: module.training for module in model.modules()}
    model.eval()
    done = 0
    try:
        for batch in batches:
            logits = _logits(model, batch["pixel_values"], precision)
            metrics.update(logits, batch["labels"])
            beside(logits, batch["labels"])
            done += len(batch["labels"])
            seen(done)
    finally:
        for module, training in modes.items():
            module.training = training
    return metrics


def _logits(model: nn.Module, pictures: Tensor, precision: Callable[[], AbstractContextManager[Any]]) -> Tensor:
    """Of a batch; where memory does not suffice for all of its pictures at once, of its halves one after the other."""
    try:
        with precision():
            return logits_of(model(pictures))
    except RuntimeError as error:
        if len(pictures) < 2 or not is_about_memory(error):
            raise
    # Not in the block above: its error holds on to what was computed.
    return torch.cat([_logits(model, half, precision) for half in pictures.tensor_split(2)])
