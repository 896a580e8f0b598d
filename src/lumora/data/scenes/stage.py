"""The place where a scene is put up: canvas, light, horizon, and how large things look where they stand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from lumora.data.scenes import colour
from lumora.data.scenes.canvas import Canvas, Paint
from lumora.data.scenes.colour import RGB
from lumora.data.scenes.light import Light


@dataclass
class Stage:
    """Everything that a thing needs to know to draw itself.

    The ground is level: what stands at height `y` of the picture is `camera / (y − horizon)` metres away and appears
    `(y − horizon) / camera` picture heights tall for each metre.
    """

    canvas: Canvas
    random: Random
    light: Light
    horizon: float
    camera: float
    """The eye's height above the ground, in metres."""
    ground: RGB
    leaves: tuple[RGB, ...]
    needles: RGB
    water: RGB
    walls: str
    roofs: str
    paints: str
    """Colours that are common in this place, as codes: of walls, of roofs, and of whatever is painted."""
    shadows: list[tuple[float, ...]] = field(default_factory=list)
    """Ellipses on the ground: x, y, half width, half height."""
    water_line: float = 2.0
    """Where the water meets what it mirrors; below the picture if there is none."""

    @property
    def width(self) -> float:
        """The picture's width in its heights."""
        return self.canvas.width

    def apart(self) -> Stage:
        """The same stage with a randomness of its own, so that how much is drawn here changes nothing elsewhere.

        What is drawn in more detail in larger pictures needs it, lest another size be another scene.
        """
        return dataclasses.replace(self, random=Random(self.random.getrandbits(48)))

    def metre(self, y: float) -> float:
        """How large a metre appears at the height `y`."""
        return max(y - self.horizon, 1e-4) / self.camera

    def distance(self, y: float) -> float:
        """How far away in metres the ground at the height `y` is."""
        return self.camera / max(y - self.horizon, 1e-3)

    def paint(self, kind: int, colour: RGB, distance: float = 0.0, lit: float = 0.6, rough: float = 0.12) -> int:
        """The number of a plain paint."""
        return self.canvas.new(Paint(kind, colour, distance, lit, rough))

    def shadow(self, x: float, y: float, across: float, tall: float) -> None:
        """Let a thing that stands at (x, y) cast a shadow away from the light."""
        reach = tall * 0.5
        self.shadows.append((x - self.light.side * reach * 0.6, y, across / 2 + reach * 0.6, max(across * 0.16, 0.003)))

    def leaf(self) -> RGB:
        """The colour of a tree's crown."""
        return colour.varied(self.random, self.random.choice(self.leaves))

    def ridge(self, height: float, rough: float, steps: int = 48) -> list[float]:
        """Heights of a random skyline from left to right, about −`height` to `height`."""
        u = self.random.uniform
        waves = [(u(0.5, 1.5) * n, u(0, 6.3), rough ** math.log2(n)) for n in (1, 2, 4, 8, 16)]
        total = sum(share for _, _, share in waves)
        heights: list[float] = []
        for i in range(steps + 1):
            x = i / steps * self.width * 6.3
            heights.append(height * sum(s * math.sin(f * x + p) for f, p, s in waves) / total * 1.6)
        return heights


def under(heights: Sequence[float], base: float, width: float, bottom: float) -> list[float]:
    """The polygon below a skyline whose heights go up from `base`."""
    flat: list[float] = []
    last = len(heights) - 1
    for i, height in enumerate(heights):
        flat += (width * i / last, base - height)
    return [*flat, width, bottom, 0.0, bottom]
