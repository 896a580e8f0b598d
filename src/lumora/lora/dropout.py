"""Dropout whose masks cost a quarter of the random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 1 << 16


def keep_probability(p: float) -> float:
    """The probability that `keep_mask` really keeps an element: `1 - p` to the nearest 1/65536."""
    return 1.0 - round(p * _STEPS) / _STEPS


def keep_mask(like: Tensor, p: float) -> Tensor:
    """Return a boolean tensor of `like`'s shape, each element False with probability `p`.

    One 64-bit draw decides four elements, 16 bits each. `p` is rounded to 1/65536; scale what is kept by
    `1 / keep_probability(p)` and the expectation is exact.

    >>> mask = keep_mask(torch.empty(1000, 100), 0.25)
    >>> 0.74 < mask.float().mean().item() < 0.76
    True
    """
    count = like.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    threshold = round(p * _STEPS) - _STEPS // 2
    return (draws.view(torch.int16)[:count] >= threshold).view(like.shape)
