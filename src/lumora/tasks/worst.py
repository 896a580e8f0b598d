"""The samples that a model gets most wrong, found while it is evaluated."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor

from lumora.tasks.base import Prediction, Task


@dataclass(frozen=True, eq=False)
class Judged(Generic[Prediction]):
    """One sample that was predicted wrongly."""

    key: str
    place: int
    """How many samples were looked at before it."""
    wrongness: float
    """From 0 to 1, as `Task.wrongness` says."""
    prediction: Prediction
    target: Tensor
    """What it should have been; on the CPU."""


class Worst(Generic[Prediction]):
    """Keeps the samples that were predicted worst, and forgets all others.

    Costs the memory of those that are kept, with their predictions and targets, however many are looked at; and one
    prediction of each.

    >>> from lumora.data import Labels
    >>> from lumora.tasks import Classification
    >>> worst = Worst(Classification(Labels(("cat", "dog"))), keep=1)
    >>> worst.update(torch.tensor([[2.0, 0.0], [0.0, 1.0], [9.0, 0.0]]), torch.tensor([0, 0, 1]), ["a", "b", "c"])
    >>> [(judged.key, judged.prediction.chosen, round(judged.wrongness, 2)) for judged in worst.found()]
    [('c', (0,), 1.0)]

    Args:
        task: says how wrong a prediction is.
        keep: how many samples are kept at most.
    """

    def __init__(self, task: Task[Prediction], keep: int = 12) -> None:
        self._task, self._keep = task, keep
        self._found: list[Judged[Prediction]] = []
        self._seen = 0

    def update(self, outputs: Any, targets: Tensor | Sequence[Tensor], keys: Sequence[str]) -> None:
        """Look at a batch: what the model gave, what it should have given, and what the samples are called."""
        predictions = self._task.predict(outputs, [_size(target) for target in targets])
        for key, prediction, target in zip(keys, predictions, targets, strict=True):
            self._look(key, prediction, target.cpu())

    def found(self) -> list[Judged[Prediction]]:
        """The worst, the very worst first; of equally wrong ones the first that was seen. Right ones are not there."""
        return list(self._found)

    def _look(self, key: str, prediction: Prediction, target: Tensor) -> None:
        place, wrongness = self._seen, self._task.wrongness(prediction, target)
        self._seen += 1
        full = len(self._found) >= self._keep
        if wrongness is None or (full and all(wrongness <= other.wrongness for other in self._found[-1:])):
            return
        judged = Judged(key, place, wrongness, prediction, _small(target))
        bisect.insort_right(self._found, judged, key=lambda other: -other.wrongness)
        del self._found[self._keep :]


def _size(target: Tensor) -> tuple[int, int]:
    """Height and width of a mask; other targets have none."""
    return (int(target.shape[0]), int(target.shape[1])) if target.dim() == 2 else (0, 0)


def _small(target: Tensor) -> Tensor:
    """A copy that holds on to no batch; masks of up to 256 classes in bytes, as predictions have them."""
    if target.dim() == 2 and target.numel() and int(target.min()) >= 0 and int(target.max()) <= 255:
        return target.to(torch.uint8, copy=True)
    return target.clone()
