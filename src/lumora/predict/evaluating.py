"""Measuring a model on samples, as its training did: the same pixels, the same batches, the same metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lumora.bundle import About
from lumora.data import Pictures, Sample
from lumora.data.dataset import Item
from lumora.data.loader import Batch, ready, together
from lumora.errors import DataError
from lumora.ops import accelerate
from lumora.predict.ahead import ahead, in_batches
from lumora.predict.telling import bare, tell
from lumora.tasks import TASKS, MultiLabel, Task
from lumora.tasks.evaluating import evaluate, proved, usual_batch_size
from lumora.tasks.metrics.base import Scores
from lumora.tasks.views import evaluation_view
from lumora.tasks.worst import Judged, Worst

_DIMENSIONS = {"classification": 0, "multilabel": 1, "segmentation": 2}
"""Of one target."""


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on some samples."""

    scores: Scores
    main: str
    """The score that tells most."""
    pictures: int
    """How many were measured."""
    absent: tuple[str, ...]
    """Classes that none of the samples has, of which nothing is known therefore."""
    skipped: tuple[tuple[str, DataError], ...]
    """Samples that were left out, and why."""
    worst: tuple[Judged[Any], ...]
    """The samples that were predicted worst."""


def task_of(about: About) -> Task[Any]:
    """The task of a bundle, with its labels and threshold."""
    if about.task == "multilabel" and about.threshold is not None:
        return MultiLabel(about.labels, about.threshold)
    return TASKS[about.task](about.labels)


def measure(
    model: nn.Module,
    about: About,
    samples: Sequence[Sample],
    *,
    batch_size: int | None = None,
    skip_bad: bool = False,
    keep: int = 0,
    seen: Callable[[int], None] = lambda pictures: None,
) -> Evaluation:
    """Compare what a bundle's model says of samples with their labels. The metrics prove themselves first.

    Costs the memory of a few batches, however many samples there are, and of the `keep` worst ones. If samples cannot
    be used, all of them are named in one error, unless `skip_bad` leaves them out.

    Args:
        model: the bundle's.
        about: what the bundle says of itself.
        samples: with the bundle's numbers for classes.
        batch_size: as in training if not said.
        skip_bad: leave out samples that cannot be read or have no label.
        keep: how many of the worst samples are kept.
        seen: is told how many samples are done, after every batch.
    """
    task = task_of(about)
    batches = _Batches(model, task, about, samples, batch_size or usual_batch_size(about.task), skip_bad)
    worst = Worst(task, keep) if keep else None

    def look(logits: Tensor, targets: Any) -> None:
        keys = batches.keys.popleft()
        if worst is not None:
            worst.update(logits, targets, keys)

    changed = accelerate(model)  # the same arithmetic as in training
    try:
        metrics = evaluate(
            model,
            task,
            proved(task, batches),
            precision=lambda: torch.autocast(batches.device.type, enabled=False),
            seen=lambda done: seen(done + len(batches.bad)),
            beside=look,
        )
    finally:
        if changed.changes:
            changed.undo()
    tell([error for _, error in batches.bad] if not skip_bad else (), len(samples), skip_bad=False)
    if len(batches.bad) == len(samples):
        why = f" The first: {batches.bad[0][1]}" if batches.bad else ""
        raise DataError(f"There is no sample that could be measured.{why}")
    meant = metrics.said_and_meant()[1].tolist()
    absent = tuple(name for name, count in zip(about.labels.names, meant, strict=True) if not count)
    found = () if worst is None else tuple(worst.found())
    return Evaluation(
        metrics.scores(), metrics.main, len(samples) - len(batches.bad), absent, tuple(batches.bad), found
    )


class _Batches:
    """Batches of samples as a training's evaluation gets them; those that cannot be used are gathered.

    Once there is one, the rest is only read, to name all that cannot be used, unless they may be left out.
    """

    def __init__(
        self, model: nn.Module, task: Task[Any], about: About, samples: Sequence[Sample], size: int, skip_bad: bool
    ) -> None:
        self._task, self._samples, self._size, self._skip_bad = task, samples, size, skip_bad
        self._pictures = Pictures(samples, evaluation_view(about.at_size), classes=len(about.labels))
        self._like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(0))
        self.device = self._like.device
        self.bad: list[tuple[str, DataError]] = []
        self.keys: deque[list[str]] = deque()
        """The names of the samples in each batch that was given out."""

    def __iter__(self) -> Iterator[Batch]:
        for group in in_batches(ahead(self._item, range(len(self._samples)), 2 * self._size), self._size):
            self.bad += [(self._samples[i].key, item) for i, item in group if isinstance(item, DataError)]
            good = [(i, item) for i, item in group if not isinstance(item, DataError)]
            if good and (self._skip_bad or not self.bad):
                self.keys.append([self._samples[i].key for i, _ in good])
                batch = ready(self._pictures, together([item for _, item in good]), self.device)
                batch["pixel_values"] = batch["pixel_values"].to(self._like.dtype)
                yield batch

    def _item(self, index: int) -> Item | DataError:
        """What the model sees of a sample, with its label."""
        sample = self._samples[index]
        try:
            item = self._pictures.drawn(index)
            if "labels" not in item or item["labels"].dim() != _DIMENSIONS[self._task.name]:
                item["labels"] = self._task.target(sample)  # or it says what is wrong
        except DataError as error:
            return bare(error)
        return item
