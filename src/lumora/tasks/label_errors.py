"""Labels that are likely wrong, among the pictures of which a model says something else.

A model is surer of some classes than of others. So a picture's label is doubted where the class that the model says
instead is at least as probable as it usually is in pictures that are labelled with that class (confident learning:
Northcutt, Jiang and Chuang, https://arxiv.org/abs/1911.00068). Predictions must be of pictures that the model has not
learnt by heart: those for validation.
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
