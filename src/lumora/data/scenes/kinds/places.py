"""Where things stand, and what may be seen behind and above any kind of scene."""

from __future__ import annotations

from collections.abc import Callable

from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.small import bird

Place = tuple[float, float]


class Crowd:
    """Things that are drawn later, the farthest first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []

    def add(self, y: float, draw: Callable[[], None]) -> None:
        """Let something at the height `y` of the picture wait for its turn."""
        self._waiting.append((y, len(self._waiting), draw))

    def draw(self) -> None:
        """Draw them all."""
        for _, _, draw in sorted(self._waiting, key=lambda one: one[:2]):
            draw()


def spread(stage: Stage, top: float, bottom: float, count: float, crowd: float = 1.0) -> list[Place]:
    """Places between two heights, the farthest first; `crowd` above 1 puts more of them far away.

    Args:
        stage: the scene's.
        top: the least height of the picture.
        bottom: the greatest.
        count: for a square picture; a wide one gets more.
        crowd: the power by which they gather at `top`.
    """
    random, width = stage.random, stage.width
    places = [
        (random.uniform(-0.03, 1.03) * width, top + (bottom - top) * random.random() ** crowd)
        for _ in range(max(0, round(count * (0.4 + 0.6 * width))))
    ]
    return sorted(places, key=lambda place: place[1])


def backdrop(stage: Stage, base: float, most: float = 0.16) -> None:
    """A range, hills, or nothing, up to `most` high above `base`."""
    random = stage.random
    if random.random() < 0.4:
        land.mountains(stage, base, random.uniform(0.07, most), random.uniform(3000, 8000))
    for i in range(random.choice((0, 1, 1, 2))):
        land.hills(stage, base, random.uniform(0.03, most * 0.55) / (i + 1), 1500 / (i + 1))


def birds(stage: Stage) -> None:
    """Perhaps a few birds."""
    random = stage.random
    if random.random() > 0.3:
        return
    x, y = random.uniform(0.1, 0.8) * stage.width, random.uniform(0.1, 0.7) * stage.horizon
    span = random.uniform(0.025, 0.05)
    for _ in range(random.randint(2, 7)):
        place = x + random.uniform(-0.16, 0.16), max(0.02, y + random.uniform(-0.07, 0.07))
        bird(stage, *place, span * random.uniform(0.7, 1.2))
