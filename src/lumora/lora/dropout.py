"""Dropout whose masks are cheap to draw, to keep and to apply.

On a CPU the masks of textbook dropout cost more than the low-rank products that they stand in front of: one sequential
draw per element, a comparison that gives booleans, and a slow conversion of these to numbers wherever they are used.
Here one 64-bit number decides four elements, the numbers come from a hash of a counter (so they are made in
parallel), and the mask is 8-bit integers.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

_STEPS = 1 << 16


def keep_probability(p: float) -> float:
    """The probability that `keep_mask` really keeps an element: `1 - p` to the nearest 1/65536, and never zero."""
    return 1.0 - _dropped_steps(p) / _STEPS


def keep_mask(like: Tensor, p: float) -> Tensor:
    """Return an `int8` tensor of `like`'s shape, each element 0 with probability `p`, else 1.

    `p` is rounded to 1/65536; scale what is kept by `1 / keep_probability(p)` and the expectation is exact. The mask
    follows from the state of torch's generator, whatever the number of threads.

    >>> mask = keep_mask(torch.empty(1000, 100), 0.25)
    >>> 0.74 < mask.float().mean().item() < 0.76
    True
    """
    count = like.numel()
    draws = _random_words(-(-count // 4), like.device).view(torch.int16)
    threshold = _dropped_steps(p) - _STEPS // 2
    keep = torch.ge(draws, threshold, out=draws)
    return keep[:count].to(torch.int8).view(like.shape)


def dropped(x: Tensor, mask: Tensor) -> Tensor:
    """`x` where the mask is 1, zero elsewhere; not scaled."""
    return mask.to(x.dtype).mul_(x)


def _dropped_steps(p: float) -> int:
    """How many of the values of 16 bits mean "drop"."""
    return min(round(p * _STEPS), _STEPS - 1)


def _random_words(count: int, device: torch.device) -> Tensor:
    """64-bit random numbers."""
    if device.type != "cpu":
        return torch.empty(count, dtype=torch.int64, device=device).random_(-(2**63), None)
    # A counter in steps of the golden ratio, mixed by Doug Lea's lea64 (the mixer of Java's LXM generators). All its
    # shifts are by half a word, so each is one operation on the halves.
    z = torch.arange(count).mul_(-0x61C8864680B583EB).add_(torch.empty((), dtype=torch.int64).random_(-(2**63), None))
    halves = z.view(torch.int32).view(-1, 2)
    low, high = halves.unbind(1) if sys.byteorder == "little" else halves.unbind(1)[::-1]
    low.bitwise_xor_(high)
    for _ in range(2):
        z.mul_(-0x2545F4914F6CDD1D)
        low.bitwise_xor_(high)
    return z
