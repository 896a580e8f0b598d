"""A surface on which shapes are painted by number, back to front.

A shape leaves its number and nothing else; what a number stands for (class, colour, distance, material) is kept in a
list. The mask and the picture are both read from these numbers, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lumora.data.scenes.colour import RGB

FINER: Final = 2
"""Shapes are painted at so many times the picture's size along each side."""

SOLID, PLANE, POND, HEAVEN = range(4)
"""Materials: things that stand; the level ground, whose texture and haze follow the perspective; water; sky."""


@dataclass(slots=True)
class Paint:
    """What a shape is and how it looks."""

    kind: int
    """The class's id."""
    colour: RGB
    distance: float = 0.0
    """In metres, for the haze."""
    lit: float = 0.6
    """How much of the direct light falls on it, 0 to 1."""
    rough: float = 0.12
    """How strongly its texture shows."""
    material: int = SOLID
    glow: float = 0.0
    """Its share of light of its own: lit windows."""
    snow: float = -1.0
    """Snow lies above this height of the picture."""
    craggy: float = 0.0


class Canvas:
    """Painted in units of the picture's height: x from 0 to `width`, y from 0 at the top to 1 at the bottom."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.columns = height, width
        self.width = width / height
        self.scale = float(FINER * height)
        self._image = Image.new("I", (FINER * width, FINER * height))
        self._draw = ImageDraw.Draw(self._image)
        self.paints: list[Paint] = []

    def new(self, paint: Paint) -> int:
        """The number under which a paint is kept."""
        self.paints.append(paint)
        return len(self.paints) - 1

    def polygon(self, flat: Sequence[float], number: int) -> None:
        """Paint the inside of `x, y, x, y, …`."""
        scale = self.scale
        self._draw.polygon([v * scale - 0.5 for v in flat], fill=number)

    def ellipse(self, x: float, y: float, rx: float, ry: float, number: int) -> None:
        """Paint an ellipse around a centre."""
        s = self.scale
        box = (x - rx) * s - 0.5, (y - ry) * s - 0.5, (x + rx) * s - 0.5, (y + ry) * s - 0.5
        self._draw.ellipse(box, fill=number)

    def box(self, left: float, top: float, right: float, bottom: float, number: int) -> None:
        """Paint an upright rectangle."""
        self.polygon((left, top, right, top, right, bottom, left, bottom), number)

    def line(self, flat: Sequence[float], thick: float, number: int) -> None:
        """Paint a line, at least as thick as the finest pixel."""
        scale = self.scale
        self._draw.line([v * scale - 0.5 for v in flat], fill=number, width=max(1, round(thick * scale)))

    def place(self, chosen: NDArray[np.bool_], number: int) -> None:
        """Paint the first rows wherever `chosen` (rows × all columns of the finer grid) says so."""
        numbers = np.array(self._image)
        numbers[: len(chosen)][chosen] = number
        self._image = Image.fromarray(numbers)
        self._draw = ImageDraw.Draw(self._image)

    def numbers(self) -> NDArray[np.intp]:
        """The number at each point of the finer grid."""
        return np.asarray(self._image).astype(np.intp)


def mask_of(numbers: NDArray[np.intp], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class that covers most of each pixel: of its four points, the commonest class; in a tie, the one in front.

    Args:
        numbers: of the finer grid, (2 H, 2 W). A later number was painted over an earlier one: it is in front.
        kinds: the class of each number.
    """
    classes = kinds.take(numbers)
    corners = [classes[i::FINER, j::FINER] for i in range(FINER) for j in range(FINER)]
    mask = corners[0].copy()
    several = np.zeros(mask.shape, np.bool_)
    for corner in corners[1:]:
        several |= corner != mask
    where = np.nonzero(several)  # the few pixels on an outline
    found = np.stack([corner[where] for corner in corners])  # (4, pixels)
    fronts = np.stack([numbers[i::FINER, j::FINER][where] for i in range(FINER) for j in range(FINER)])
    votes = (found[:, None] == found[None]).sum(0)
    best = ((votes << 32) + fronts).argmax(0)
    mask[where] = np.take_along_axis(found, best[None], 0)[0]
    return mask
