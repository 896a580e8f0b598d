"""Whether samples with a label score higher than those without."""

from __future__ import annotations

import torch
from torch import Tensor

from lumora.tasks.metrics.counter import Counter

_RANGE = 16.0
"""Logits beyond ±16 are probabilities within 0.0000001 of 0 or 1, and share the outermost bins."""


class Ranking(Counter):
    """Of each label, how many samples with it and without it have a score in each bin.

    Bins are equal in logits and not in probabilities: a rare label's probabilities all lie near 0. The area under the
    ROC curve is a count of pairs, and only pairs within one bin are not known; they count as half, as ties do.
    """

    def __init__(self, classes: int, bins: int = 2048) -> None:
        super().__init__(2, classes, bins)

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count logits (N, K) and targets (N, K): 1 with the label, 0 without, negative unknown."""
        _, classes, bins = self.counts.shape
        scores = logits.float().nan_to_num(nan=-_RANGE)
        bin_of = scores.add(_RANGE).mul(bins / (2 * _RANGE)).floor().clamp(0, bins - 1).long()
        places = (targets > 0).long() * classes + torch.arange(classes, device=logits.device)
        cells = torch.bincount((places * bins + bin_of)[targets >= 0], minlength=self.counts.numel())
        self.counts += cells.view_as(self.counts)

    def areas(self) -> list[float | None]:
        """Each label's area under the ROC curve; None where every sample has it, or none."""
        return [area for area, _ in self._areas()]

    def uncertainties(self) -> list[float | None]:
        """By how much each area may be off at most: half the share of pairs that fell into one bin."""
        return [doubt for _, doubt in self._areas()]

    def _areas(self) -> list[tuple[float, float] | tuple[None, None]]:
        without, with_it = self.counts.cpu().double()  # (K, bins)
        below = without.cumsum(1) - without
        pairs = with_it.sum(1) * without.sum(1)
        ties = (with_it * without).sum(1) / 2
        won = (with_it * below).sum(1) + ties
        return [(float(w / p), float(t / p)) if p else (None, None) for w, t, p in zip(won, ties, pairs, strict=True)]
