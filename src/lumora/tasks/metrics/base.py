"""Metrics that are updated batch by batch, keep counts only, and add up across processes."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
import torch.distributed
from torch import Tensor

from lumora.tasks.metrics.counter import Counter

_AT_ONCE = 8


@dataclass(frozen=True)
class Scores(Mapping[str, float]):
    """What metrics say: a mapping of their names to numbers, and a table of the classes.

    >>> scores = Scores({"accuracy": 0.5}, {"cat": {"f1": 1.0}, "dog": {"f1": 0.0}})
    >>> scores["accuracy"], scores.per_class["cat"]["f1"]
    (0.5, 1.0)
    """

    overall: dict[str, float]
    per_class: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """For each class's name, its own measures. A class that does not occur has no entry."""

    def __getitem__(self, name: str) -> float:
        return self.overall[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.overall)

    def __len__(self) -> int:
        return len(self.overall)

    def flat(self) -> dict[str, float]:
        """All in one dictionary, the classes' as `iou_sky`.

        >>> Scores({"mean_iou": 0.5}, {"sky": {"iou": 0.5}}).flat()
        {'mean_iou': 0.5, 'iou_sky': 0.5}
        """
        classes = {f"{measure}_{name}": v for name, row in self.per_class.items() for measure, v in row.items()}
        return {**self.overall, **classes}


class Metrics(ABC):
    """Everything that is measured for one task.

    Feed it logits and targets with `update`, batch by batch; they are reduced to counts on their device at once and not
    kept. `compute` adds the counts of all processes.

    It is also a `compute_metrics` for transformers' `Trainer`, with `batch_eval_metrics` or without; the `Trainer` in
    `lumora.integrations.transformers` streams it.
    """

    main: ClassVar[str]
    """The measure by which to choose the best of several models; higher is better."""
    logs_classes: ClassVar[bool] = False
    """Whether the classes' own measures are usually logged, too."""

    @property
    @abstractmethod
    def counters(self) -> Sequence[Counter]:
        """Everything that is remembered."""

    @abstractmethod
    def update(self, logits: Tensor, targets: Any) -> None:
        """Count one batch."""

    @abstractmethod
    def scores(self) -> Scores:
        """What this process has counted. Most callers want `compute`."""

    @abstractmethod
    def said_and_meant(self) -> tuple[Tensor, Tensor]:
        """How often this process has seen each class predicted, and how often as label: of pictures or pixels."""

    def compute(self) -> Scores:
        """What all processes together have counted; each gets the same. All must call it."""
        return self.summed().scores()

    def summed(self) -> Self:
        """A copy with the counts of all processes; one message between them."""
        total = copy.deepcopy(self)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            on = "cuda" if torch.distributed.get_backend() == "nccl" else self.counters[0].counts.device
            everything = torch.cat([c.counts.flatten() for c in total.counters]).to(on)
            torch.distributed.all_reduce(everything)
            parts = everything.split([c.counts.numel() for c in total.counters])
            for counter, part in zip(total.counters, parts, strict=True):
                counter.counts = part.view_as(counter.counts).to(counter.counts.device)
        return total

    def merge(self, other: Self) -> None:
        """Add what another has counted, of the same task with the same classes."""
        for mine, theirs in zip(self.counters, other.counters, strict=True):
            mine.counts += theirs.counts.to(mine.counts.device)

    def reset(self) -> None:
        """Forget everything."""
        for counter in self.counters:
            counter.counts.zero_()

    def to(self, device: torch.device | str) -> Self:
        """Move the counts to a device; `update` does so by itself when predictions come from another."""
        for counter in self.counters:
            counter.counts = counter.counts.to(device)
        return self

    def logged(self, scores: Scores) -> dict[str, float]:
        """What a training should log of them."""
        return scores.flat() if self.logs_classes else dict(scores)

    def __call__(self, evaluated: Any, compute_result: bool = True) -> dict[str, float]:
        """Do what transformers' `Trainer` asks of its `compute_metrics`; forget all when the result was asked for."""
        for logits, targets in _batches(first_of(evaluated.predictions), first_of(evaluated.label_ids)):
            self.update(torch.as_tensor(logits), torch.as_tensor(targets))
        if not compute_result:
            return {}
        logged = self.logged(self.scores())  # the Trainer has gathered: every process has counted all
        self.reset()
        return logged


def first_of(outputs: Any) -> Any:
    """The first of several outputs, which holds the logits; or the only one."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _batches(logits: Any, targets: Any) -> Iterator[tuple[Any, Any]]:
    """A few samples at a time: whoever has kept all logits has no memory to spare."""
    if isinstance(logits, list):  # `eval_do_concat_batches=False`
        for some, theirs in zip(logits, targets, strict=True):
            yield from _batches(first_of(some), first_of(theirs))
    else:
        for start in range(0, len(logits), _AT_ONCE):
            yield logits[start : start + _AT_ONCE], targets[start : start + _AT_ONCE]
