"""Measuring a model on pictures that it did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from lumora.tasks import Task
from lumora.tasks.base import logits_of
from lumora.tasks.metrics import Metrics


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task[Any],
    batches: Iterable[Mapping[str, Any]],
    *,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    seen: Callable[[int], None] = lambda pictures: None,
) -> Metrics:
    """A task's metrics after all batches, not yet added up with other processes'. Modes are as before afterwards.

    `seen` is told how many pictures are done, after every batch.
    """
    metrics = task.new_metrics()
    modes = {module: module.training for module in model.modules()}
    model.eval()
    done = 0
    try:
        for batch in batches:
            with precision():
                logits = logits_of(model(batch["pixel_values"]))
            metrics.update(logits, batch["labels"])
            done += len(batch["labels"])
            seen(done)
    finally:
        for module, training in modes.items():
            module.training = training
    return metrics
