"""Whether a model is as sure as it is right."""

from __future__ import annotations

import torch
from torch import Tensor

from lumora.tasks.metrics.counter import ONE, Counter, fixed_point


class Calibration(Counter):
    """Samples, right answers and the sum of confidences, in equal bins of confidence."""

    def __init__(self, bins: int = 15) -> None:
        super().__init__(3, bins)

    def update(self, confidence: Tensor, right: Tensor) -> None:
        """Count the confidences (N,) of answers and whether they were right."""
        bins = self.counts.shape[1]
        confidence = confidence.nan_to_num(nan=1.0)  # an infinite logit is sure of itself
        # Bins are closed above, as they are usually drawn: (0, 1/15], (1/15, 2/15], ...
        bin_of = confidence.float().mul(bins).ceil().long().sub(1).clamp(0, bins - 1)
        self.counts[0].index_add_(0, bin_of, torch.ones_like(bin_of))
        self.counts[1].index_add_(0, bin_of, right.long())
        self.counts[2].index_add_(0, bin_of, fixed_point(confidence))

    def error(self) -> float:
        """The expected calibration error: |share right − mean confidence| of each bin, weighted by its samples."""
        samples, right, confidence = self.counts.tolist()
        gaps = sum(abs(r - c / ONE) for r, c in zip(right, confidence, strict=True))
        return gaps / max(sum(samples), 1)
