"""How the learning rate runs over a training: up from nothing, and down again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Shape = Literal["cosine", "linear", "constant"]

_DESCENTS: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}


def factor(step: int, steps: int, warmup: float, shape: Shape) -> float:
    """What multiplies every rate in a step, counted from 0, of a training of `steps`.

    The rate rises in equal steps over the share `warmup` of the training and is whole when that ends.

    >>> [round(factor(step, 10, 0.2, "linear"), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return _DESCENTS[shape]((step - rising) / max(1, steps - rising))
