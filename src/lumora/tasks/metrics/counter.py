"""Whole numbers that add up."""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor

ONE = 1 << 30
"""What 1.0 counts as where fractions are summed: sums of whole numbers are the same in any order."""


class Counter(ABC):
    """What one metric remembers: one tensor of counts, whose size does not depend on how much was counted.

    Counts of two halves of a data set, added, are those of the whole: that is all that several processes need.
    """

    counts: Tensor

    def __init__(self, *size: int) -> None:
        self.counts = torch.zeros(size, dtype=torch.int64)


def fixed_point(fractions: Tensor) -> Tensor:
    """Fractions as whole numbers, in steps of a billionth.

    >>> fixed_point(torch.tensor([0.0, 0.5, 1.0])) / ONE
    tensor([0.0000, 0.5000, 1.0000])
    """
    return fractions.double().mul(ONE).round().long() if fractions.device.type != "mps" else _without_double(fractions)


def _without_double(fractions: Tensor) -> Tensor:
    """The same to a float's 24 digits, on a device that knows nothing longer."""
    return fractions.float().mul(1 << 24).round().long() * (ONE >> 24)


def mean(values: list[float]) -> float:
    """The mean; NaN of nothing."""
    return sum(values) / len(values) if values else float("nan")
