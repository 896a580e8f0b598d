"""Dropout whose masks are cheap to draw, to keep and to apply.

On a CPU the masks of textbook dropout cost more than the low-rank products that they stand in front of: one sequential
draw per element, a comparison that gives booleans, and a slow conversion of these to numbers wherever they are used.
Here one 64-bit number decides four elements, the numbers come from a hash of a counter (so they are made in
parallel), and the mask is 8-bit integers.
"""

from __future__ import annotations

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
    # SplitMix64 (Steele, Lea, Flood 2014): a counter in steps of the golden ratio, then two rounds of mixing.
    z = torch.arange(count).mul_(-0x61C8864680B583EB).add_(torch.empty((), dtype=torch.int64).random_(-(2**63), None))
    shifted = torch.empty_like(z)
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        torch.bitwise_right_shift(z, shift, out=shifted).bitwise_and_((1 << (64 - shift)) - 1)
        z.bitwise_xor_(shifted)
        if factor != 1:
            z.mul_(factor)
    return z
