"""The metrics of classification, with one label for a picture or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lumora.errors import MetricError
from lumora.tasks.metrics.base import Metrics, Scores
from lumora.tasks.metrics.calibration import Calibration
from lumora.tasks.metrics.counter import Counter, mean
from lumora.tasks.metrics.decisions import Decision, Decisions
from lumora.tasks.metrics.ranking import Ranking

_TOP = 5


class _Answers(Counter):
    """Samples, those with the right label first, and those with it among the first five."""

    def __init__(self) -> None:
        super().__init__(3)

    def update(self, place: Tensor) -> None:
        """Count the places (N,) of the right labels among all labels by their logits."""
        self.counts += torch.stack([torch.ones_like(place), place < 1, place < _TOP]).sum(1)


class ClassificationMetrics(Metrics):
    """Accuracy, top-5 accuracy, macro-F1 and calibration error, for one label of `names` to each picture.

    >>> metrics = ClassificationMetrics(["cat", "dog"])
    >>> metrics.update(torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]), torch.tensor([0, 1, 1]))
    >>> {name: round(value, 3) for name, value in metrics.compute().items()}
    {'accuracy': 0.667, 'macro_f1': 0.667, 'calibration_error': 0.214}
    """

    main: ClassVar[str] = "accuracy"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._answers = _Answers()
        self._decisions = Decisions(len(names))
        self._calibration = Calibration()

    @property
    def counters(self) -> Sequence[Counter]:
        """Everything that is remembered."""
        return self._answers, self._decisions, self._calibration

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count logits (N, K) and class ids (N,); negative ids count nowhere."""
        _check(logits, targets, (logits.shape[0],), len(self.names))
        self.to(logits.device)
        targets = targets.to(logits.device).long()
        logits, targets = logits[targets >= 0].float(), targets[targets >= 0]
        if targets.numel() and int(targets.max()) >= len(self.names):
            raise MetricError(
                f"A label is {int(targets.max())}; with {len(self.names)} classes they are 0 to {len(self.names) - 1}. "
                "Do the labels start at 1?"
            )
        place = _place(logits, targets)
        self._answers.update(place)
        said, meant = (F.one_hot(ids, len(self.names)).bool() for ids in (logits.argmax(1), targets))
        self._decisions.update(said & ~logits.isnan().any(1, keepdim=True), meant)
        self._calibration.update(logits.softmax(1).amax(1), place == 0)

    def said_and_meant(self) -> tuple[Tensor, Tensor]:
        """How often each class was said, and how often it was meant."""
        return self._decisions.said_and_meant()

    def scores(self) -> Scores:
        """What this process has counted."""
        samples, right, among = self._answers.counts.tolist()
        if not samples:
            raise MetricError("No picture with a label was evaluated, so there is nothing to measure.")
        seen = _seen(self.names, self._decisions)
        overall = {"accuracy": right / samples}
        if len(self.names) > _TOP:
            overall["top5_accuracy"] = among / samples
        overall["macro_f1"] = mean([d.f1 for d in seen.values()])
        overall["calibration_error"] = self._calibration.error()
        return Scores(overall, {name: _row(decision) for name, decision in seen.items()})


class MultiLabelMetrics(Metrics):
    """Accuracy, exact matches, macro-F1, AUROC and calibration error, for any number of labels to a picture.

    A label is said where its probability is at least `threshold`.
    """

    main: ClassVar[str] = "macro_f1"

    def __init__(self, names: Sequence[str], threshold: float = 0.5) -> None:
        self.names = tuple(names)
        self.threshold = threshold
        self._exact = _Exact()
        self._decisions = Decisions(len(names))
        self._ranking = Ranking(len(names))
        self._calibration = Calibration()

    @property
    def counters(self) -> Sequence[Counter]:
        """Everything that is remembered."""
        return self._exact, self._decisions, self._ranking, self._calibration

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count logits (N, K) and targets (N, K): 1 with the label, 0 without, negative where it is not known."""
        _check(logits, targets, tuple(logits.shape), len(self.names))
        self.to(logits.device)
        logits, targets = logits.float(), targets.to(logits.device)
        known, meant = targets >= 0, targets > 0
        likely = logits.sigmoid()
        said = (likely >= self.threshold) & known
        right = (said == meant) & known
        self._exact.update(right, known)
        self._decisions.update(said, meant)
        self._ranking.update(logits, targets)
        # As sure as it is of what it says: of the label, or of its absence.
        sure = torch.where(said, likely, 1 - likely)
        self._calibration.update(sure[known], right[known])

    def said_and_meant(self) -> tuple[Tensor, Tensor]:
        """How often each class was said, and how often it was meant."""
        return self._decisions.said_and_meant()

    def scores(self) -> Scores:
        """What this process has counted."""
        samples, exact, decided, right = self._exact.counts.tolist()
        if not decided:
            raise MetricError("No picture with known labels was evaluated, so there is nothing to measure.")
        seen = _seen(self.names, self._decisions)
        areas = dict(zip(self.names, self._ranking.areas(), strict=True))
        overall = {
            "accuracy": right / decided,
            "exact_match": exact / samples,
            "macro_f1": mean([d.f1 for d in seen.values()]),
            "auroc": mean([area for area in areas.values() if area is not None]),
            "calibration_error": self._calibration.error(),
        }
        rows = {name: _row(decision) for name, decision in seen.items()}
        for name, area in areas.items():
            if area is not None:
                rows.setdefault(name, {})["auroc"] = area
        return Scores(overall, rows)


class _Exact(Counter):
    """Samples, those right in all labels; decisions on single labels, and the right ones."""

    def __init__(self) -> None:
        super().__init__(4)

    def update(self, right: Tensor, known: Tensor) -> None:
        """Count booleans (N, K). A sample of which nothing is known is none."""
        samples = known.any(1)
        exact = (right | ~known).all(1) & samples
        self.counts += torch.stack([samples.sum(), exact.sum(), known.sum(), right.sum()])


def _place(logits: Tensor, targets: Tensor) -> Tensor:
    """How many labels come before the right one by their logits; of equal ones the first comes first.

    Where there is NaN, no label is in the first place.
    """
    chosen = logits.gather(1, targets[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
    return (~(logits <= chosen) | ((logits == chosen) & earlier)).sum(1)


def _check(logits: Tensor, targets: Tensor, expected: tuple[int, ...], classes: int) -> None:
    if logits.ndim != 2 or logits.shape[1] != classes or tuple(targets.shape) != expected:
        raise MetricError(
            f"Expected logits (N, {classes}) and targets of shape {expected if logits.ndim == 2 else '(N, …)'}, one "
            f"column for each label; got logits {tuple(logits.shape)} and targets {tuple(targets.shape)}."
        )


def _seen(names: Sequence[str], decisions: Decisions) -> dict[str, Decision]:
    return {name: d for name, d in zip(names, decisions.decisions(), strict=True) if d.seen}


def _row(decision: Decision) -> dict[str, float]:
    return {
        "precision": decision.precision,
        "recall": decision.recall,
        "f1": decision.f1,
        "support": float(decision.meant),
    }
