"""One look at all pictures for validation: scores, what is taken for what, the worst, and some others.

What is kept does not grow with the number of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lumora.data import Loader, Sample
from lumora.tasks import Task
from lumora.tasks.evaluating import evaluate
from lumora.tasks.metrics import SegmentationMetrics
from lumora.tasks.metrics.base import Metrics, Scores
from lumora.tasks.metrics.confusion import Confusion
from lumora.tasks.worst import Judged, Worst

WORST = {"segmentation": 6}
_WORST = 18
_SHOWN = {"segmentation": 4}
"""Pictures that are shown whatever is said of them: evenly spread over all."""
_MOST_CLASSES = 2000
"""With more, who was taken for whom is not counted: that takes 32 MB here, and grows with the square."""
_UNKNOWN = -1
"""A class id that is not known."""


@dataclass(frozen=True)
class Findings:
    """What was found in the pictures for validation."""

    pictures: int
    scores: Scores
    main: str
    """The score that tells most."""
    confusion: Tensor | None
    """How often a class (row) was taken for another (column): (K, K), of pictures or pixels; None where unknown."""
    worst: list[Judged[Any]]
    shown: list[Judged[Any]]
    """Some others; their `wrongness` is 0 where all is right."""


def examine(
    model: nn.Module,
    task: Task[Any],
    loader: Loader,
    *,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    seen: Callable[[int], None] = lambda pictures: None,
) -> Findings:
    """Evaluate a model and look at every prediction once; the loader must not draw an order."""
    loader.set_epoch(0)
    looking = Looking(task, loader.pictures.samples)
    return looking.findings(evaluate(model, task, loader, precision=precision, seen=seen, beside=looking))


class Looking:
    """Looks at one batch after the other, in the samples' order, beside an evaluation.

    Args:
        task: what is evaluated.
        samples: all of them.
        keep: how many of the worst are kept; as many as a report shows if not said.
    """

    def __init__(self, task: Task[Any], samples: Sequence[Sample], keep: int | None = None) -> None:
        self._worst = Worst(task, WORST.get(task.name, _WORST) if keep is None else keep)
        self._shown: list[Judged[Any]] = []
        self._task, self._samples, self._done = task, samples, 0
        self._to_show = set(spread(len(samples), _SHOWN.get(task.name, 0)))
        counts = task.name == "classification" and len(task.labels) <= _MOST_CLASSES
        self._confusion = Confusion(len(task.labels), _UNKNOWN) if counts else None

    def __call__(self, logits: Tensor, targets: Tensor | Sequence[Tensor]) -> None:
        """Look at a batch."""
        places = range(self._done, self._done + len(targets))
        keys = [self._samples[place].key for place in places]
        self._worst.update(logits, targets, keys)
        for i, place in enumerate(places):
            if place in self._to_show:
                self._show(logits[i : i + 1], targets[i].cpu(), keys[i], place)
        if self._confusion is not None:
            ids = torch.as_tensor(targets).cpu().clamp(min=_UNKNOWN)
            self._confusion.update(logits.argmax(1).cpu(), ids)
        self._done += len(targets)

    def findings(self, metrics: Metrics) -> Findings:
        """What was found, and the metrics that were counted meanwhile."""
        confusion = None if self._confusion is None else self._confusion.checked()
        if isinstance(metrics, SegmentationMetrics):
            confusion = metrics.confusion()
        return Findings(
            pictures=self._done,
            scores=metrics.scores(),
            main=metrics.main,
            confusion=confusion,
            worst=self._worst.found(),
            shown=self._shown,
        )

    def _show(self, logits: Tensor, target: Tensor, key: str, place: int) -> None:
        size = (int(target.shape[-2]), int(target.shape[-1]))
        [prediction] = self._task.predict(logits, [size])
        self._shown.append(Judged(key, place, self._task.wrongness(prediction, target) or 0.0, prediction, target))


def spread(count: int, wanted: int) -> list[int]:
    """Places evenly spread among so many.

    >>> spread(100, 4), spread(2, 4)
    ([12, 37, 62, 87], [0, 1])
    """
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]
