"""Labels that are likely wrong, among the pictures of which a model says something else.

A model is surer of some classes than of others. So a picture's label is doubted where the class that the model says
instead is at least as probable as it usually is in pictures that are labelled with that class (confident learning:
Northcutt, Jiang and Chuang, https://arxiv.org/abs/1911.00068). Predictions must be of pictures that the model has not
learnt by heart: those for validation.

Of several labels, each is asked by itself: one that is said and not there, or there and not said, is doubted where the
model is as sure as it usually is. Of masks, each pixel is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lumora.tasks.worst import Judged


class UsualConfidence:
    """How probable a model usually finds each class in pictures that are labelled with it. Keeps two numbers a class.

    >>> usual = UsualConfidence(2)
    >>> usual.update(torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    >>> [round(value, 2) for value in usual.of_classes().tolist()]
    [0.69, 0.73]

    Args:
        classes: how many there are.
    """

    def __init__(self, classes: int) -> None:
        self._sums = torch.zeros(classes, dtype=torch.float64)
        self._counts = torch.zeros(classes, dtype=torch.float64)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Look at a batch: logits (N, K), and ids of labels (N,), negative where there is none."""
        known = targets.cpu() >= 0
        ids = targets.cpu()[known].long()
        own = logits.detach().cpu()[known].double().softmax(1).gather(1, ids[:, None])[:, 0]
        self._sums.index_add_(0, ids, own.nan_to_num(nan=0.0))
        self._counts.index_add_(0, ids, torch.ones_like(own))

    def of_classes(self) -> Tensor:
        """The mean probability (K,); infinite for classes that no picture is labelled with."""
        return torch.where(self._counts > 0, self._sums / self._counts.clamp(min=1), torch.inf)


def likely_label_errors(worst: Sequence[Judged[Any]], usual: Tensor) -> list[Judged[Any]]:
    """Those of the worst predictions of single labels that say more of the label than of the model, likeliest first."""
    doubted = [judged for judged in worst if _probability(judged) >= float(usual[judged.prediction.chosen[0]])]
    return sorted(doubted, key=lambda judged: -judged.wrongness)


def _probability(judged: Judged[Any]) -> float:
    return float(judged.prediction.probabilities[judged.prediction.chosen[0]])


# --- several labels ---------------------------------------------------------------------------------------------------


class UsualOfEachLabel:
    """How sure a model usually is that a label is there, and that it is not, where the data say so.

    >>> usual = UsualOfEachLabel(1)
    >>> usual.update(torch.tensor([[2.0], [0.0], [-2.0]]), torch.tensor([[1], [1], [0]]))
    >>> [[round(value, 2) for value in values.tolist()] for values in usual.of_labels()]
    [[0.69], [0.88]]

    Args:
        labels: how many there are.
    """

    def __init__(self, labels: int) -> None:
        self._sums = torch.zeros(2, labels, dtype=torch.float64)
        self._counts = torch.zeros(2, labels, dtype=torch.float64)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Look at a batch: logits (N, K), and ones and zeros (N, K), negative where it is not known."""
        likely, targets = logits.detach().cpu().double().sigmoid().nan_to_num(nan=0.0), targets.cpu()
        for i, (there, sure) in enumerate(((targets > 0, likely), (targets == 0, 1 - likely))):
            self._sums[i] += torch.where(there, sure, 0).sum(0)
            self._counts[i] += there.sum(0)

    def of_labels(self) -> tuple[Tensor, Tensor]:
        """The mean probability (K,) where a label is there, and of its absence where it is not; infinite for none."""
        there, absent = torch.where(self._counts > 0, self._sums / self._counts.clamp(min=1), torch.inf)
        return there, absent


def likely_errors_of_labels(worst: Sequence[Judged[Any]], there: Tensor, absent: Tensor) -> list[Judged[Any]]:
    """Those of the worst predictions of several labels of which one label at least is doubted, likeliest first."""
    found: list[Judged[Any]] = []
    for judged in worst:
        likely, said = judged.prediction.probabilities.double(), torch.zeros(len(there), dtype=torch.bool)
        said[list(judged.prediction.chosen)] = True
        too_many = said & (judged.target == 0) & (likely >= there)
        too_few = ~said & (judged.target > 0) & (1 - likely >= absent)
        if bool((too_many | too_few).any()):
            found.append(judged)
    return sorted(found, key=lambda judged: -judged.wrongness)


# --- masks ------------------------------------------------------------------------------------------------------------


class UsualOfPixels:
    """How probable a model usually finds each class in pixels that are labelled with it. Keeps two numbers a class.

    Looks at one pixel for each of the model's own logits, which costs little more than the logits.

    Args:
        classes: how many there are.
        ignore: the id of pixels that count nowhere.
    """

    def __init__(self, classes: int, ignore: int) -> None:
        self._usual, self._ignore = UsualConfidence(classes), ignore

    def update(self, logits: Tensor, targets: Tensor | Sequence[Tensor]) -> None:
        """Look at a batch: logits (N, K, h, w), and masks (H, W)."""
        for one, target in zip(logits, targets, strict=True):
            ids = _at(target, one.shape[1:]).flatten()
            self._usual.update(one.flatten(1).T, torch.where((ids < len(one)) & (ids != self._ignore), ids, -1))

    def of_classes(self) -> Tensor:
        """The mean probability (K,); infinite for classes with which no pixel is labelled."""
        return self._usual.of_classes()


def doubtful_share(logits: Tensor, target: Tensor, usual: Tensor, ignore: int) -> float:
    """How much of a mask (H, W) is doubted: another class is at least as probable there (K, h, w) as it usually is."""
    ids = _at(target, logits.shape[1:])
    likely, said = logits.detach().cpu().double().softmax(0).max(0)
    counts = (ids >= 0) & (ids < len(logits)) & (ids != ignore)
    doubted = counts & (said != ids) & (likely >= usual[said])
    return int(doubted.sum()) / max(1, int(counts.sum()))


def _at(target: Tensor, size: Sequence[int]) -> Tensor:
    """A mask (H, W) at the middles of so many cells, on the CPU."""
    rows, columns = ((2 * torch.arange(n) + 1) * m // (2 * n) for n, m in zip(size, target.shape, strict=True))
    return target.cpu().long()[rows][:, columns]
