"""Dropout whose masks are cheap to draw, to keep and to apply.

On a CPU the masks of textbook dropout cost more than the low-rank products that they stand in front of: one sequential
draw per element, a comparison that gives booleans, and a slow conversion of these to numbers wherever they are used.
Here one 64-bit number decides eight elements, the numbers come from a hash of a counter (so they are made in
parallel), and the mask is 8-bit integers.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

_STEPS = 1 << 8


def keep_mask(like: Tensor, p: float) -> Tensor:
    """Return an `int8` tensor of `like`'s shape, each element 0 with probability `p`, else 1.

    `p` may lie between two steps of 1/256; then a mask as a whole drops by the one or the other, drawn so that every
    element's probability is `p` exactly. The mask follows from the state of torch's generator, whatever the number of
    threads.

    >>> mask = keep_mask(torch.empty(1000, 100), 0.25)
    >>> 0.74 < mask.float().mean().item() < 0.76
    True
    """
    steps = int(p * _STEPS + torch.rand((), dtype=torch.float64, device="cpu").item())
    if steps == 0:
        return torch.ones_like(like, dtype=torch.int8)
    count = like.numel()
    draws = _random_words(-(-count // 8), like.device).view(torch.int8)
    keep = torch.gt(draws, steps - _STEPS // 2 - 1, out=draws)
    return keep[:count].view(like.shape)


def dropped(x: Tensor, mask: Tensor) -> Tensor:
    """`x` where the mask is 1, zero elsewhere; not scaled."""
    return mask.to(x.dtype).mul_(x)


def _random_words(count: int, device: torch.device) -> Tensor:
    """64-bit random numbers."""
    if device.type != "cpu":
        return torch.empty(count, dtype=torch.int64, device=device).random_(-(2**63), None)
    # A counter in steps of the golden ratio, mixed by Doug Lea's lea64 (the mixer of Java's LXM generators). All its
    # shifts are by half a word, so each is one operation on the halves.
    first = int(torch.empty((), dtype=torch.int64, device=device).random_(-(2**63), 2**63 - 1 - count).item())
    z = torch.arange(first, first + count, device=device).mul_(-0x61C8864680B583EB)
    halves = z.view(torch.int32).view(-1, 2)
    low, high = halves.unbind(1) if sys.byteorder == "little" else halves.unbind(1)[::-1]
    low.bitwise_xor_(high)
    for _ in range(2):
        z.mul_(-0x2545F4914F6CDD1D)
        low.bitwise_xor_(high)
    return z
