"""Colours that are easy to tell apart, as many as are wanted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lumora.data.labels import Colour

_LEVELS = 24
"""Of each channel: 13,824 colours to choose from."""

# Björn Ottosson, "A perceptual color space for image processing" (2020).
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


@functools.lru_cache(maxsize=64)
def distinct_colours(count: int, beside: tuple[Colour, ...] = ((0, 0, 0), (255, 255, 255))) -> tuple[Colour, ...]:
    """So many colours, each as far as can be from those before it and from those `beside` them.

    Far as the eye sees it (in OKLab). More colours begin with the same ones: a class that is added changes no other's.

    >>> distinct_colours(3) == distinct_colours(50)[:3]
    True
    """
    import numpy as np

    levels = np.linspace(0, 255, _LEVELS).round().astype(np.int64)
    choices = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    places = _seen(choices)
    apart = np.full(len(choices), np.inf)
    for place in _seen(np.array(beside)) if beside else ():
        apart = np.minimum(apart, ((places - place) ** 2).sum(-1))
    found: list[Colour] = []
    for _ in range(count):
        index = int(apart.argmax())
        red, green, blue = choices[index].tolist()
        found.append((red, green, blue))
        apart = np.minimum(apart, ((places - places[index]) ** 2).sum(-1))
    return tuple(found)


def least_difference(colours: Sequence[Colour]) -> float:
    """How far apart the two most alike of some colours are; white and black are 1 apart.

    >>> round(least_difference([(0, 0, 0), (255, 255, 255)]), 2)
    1.0
    """
    import numpy as np

    places = _seen(np.array(colours))
    apart = ((places[:, None] - places) ** 2).sum(-1)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min()) ** 0.5


def _seen(colours: NDArray[Any]) -> NDArray[Any]:
    """Where colours (n, 3) lie in OKLab."""
    import numpy as np

    share = colours / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.cbrt(light @ np.array(_TO_CONES).T) @ np.array(_TO_LAB).T
