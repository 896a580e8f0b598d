"""The open sea up to the horizon, and a shore that leads towards it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lumora.data.scenes.canvas import PLANE, Paint
from lumora.data.scenes.colour import RGB, mixed, picked, rgb
from lumora.data.scenes.kinds.places import Place, spread
from lumora.data.scenes.names import GROUND, WATER
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.buildings import lighthouse
from lumora.data.scenes.things.plants import palm, tree
from lumora.data.scenes.things.small import boat, person, rock, ship


@dataclass(frozen=True)
class _Shore:
    """The land on one side of the picture."""

    left: bool
    width: float
    horizon: float
    reach: float
    phase: float

    def inland(self, y: float) -> float:
        """How far the land reaches from its side at a height of the picture."""
        share = max(0.0, (y - self.horizon) / (1 - self.horizon))
        return self.width * (0.08 + self.reach * share**0.8 + 0.05 * math.sin(self.phase + 9 * share) * (0.3 + share))

    def x(self, inward: float) -> float:
        """A place so far in from the land's side of the picture."""
        return inward if self.left else self.width - inward

    def above(self, place: Place) -> float:
        """How far from the water a place is, as a share of the picture's width; negative in the water."""
        return (self.inland(place[1]) - self.x(place[0])) / self.width


def coast(stage: Stage) -> None:
    """Paint a coast."""
    random, h, width = stage.random, stage.horizon, stage.width
    stage.water_line = h
    if random.random() < 0.3:
        land.hills(stage, h, random.uniform(0.02, 0.07), 2500, trees=0.2)
    stage.canvas.box(0, h, width, 1.01, land.wet(stage, random.uniform(0.25, 0.6)))
    for x, y in spread(stage, h + 0.015, h + 0.2, random.randint(0, 4), 1.5):
        boat(stage, x, y, random.uniform(7, 12), "sail" if random.random() < 0.7 else "motor")
    if random.random() < 0.3:
        ship(stage, random.random() * width, h + 0.02, random.uniform(70, 120))
    shore = _Shore(random.random() < 0.5, width, h, random.uniform(0.35, 0.8), random.uniform(0, 6.28))
    sand = picked(random, "d8c8a0 c8b48c b8a48a e8e0cc 9a948a a8906a") if random.random() < 0.75 else stage.ground
    _land(stage, shore, sand)
    if random.random() < 0.4:
        y = h + random.uniform(0.03, 0.12)
        lighthouse(stage, shore.x(shore.inland(y) * random.uniform(0.4, 0.8)), y, random.uniform(16, 24))
    _things(stage, shore)


def _land(stage: Stage, shore: _Shore, sand: RGB) -> None:
    """Foam, wet sand, sand and grass."""
    h, width = stage.horizon, stage.width
    heights = [h + 0.012 + (1.02 - h - 0.012) * (i / 30) ** 1.6 for i in range(31)]
    foam = stage.canvas.new(Paint(WATER, rgb("f0f4f4"), 0, 0.5, 0.25, PLANE))
    damp = stage.canvas.new(Paint(GROUND, mixed(sand, stage.water, 0.35), 0, 0.55, 0.1, PLANE))
    dry, grass = land.level(stage, sand, 0.16), land.level(stage, stage.ground)
    for out, number in ((0.035, foam), (0.02, damp), (-0.03, dry), (-0.3, grass)):
        outline: list[float] = [shore.x(-0.02), heights[0]]
        for y in heights:
            spill = width * out * (0.15 + (y - h) / (1 - h))
            outline += (shore.x(max(shore.inland(y) + spill, -0.02)), y)
        stage.canvas.polygon([*outline, shore.x(-0.02), 1.02], number)


def _things(stage: Stage, shore: _Shore) -> None:
    random, h = stage.random, stage.horizon
    rocky, warm = random.random() < 0.5, stage.light.season != "winter" and random.random() < 0.3
    green = [place for place in spread(stage, h + 0.03, 0.9, 46, 1.7) if shore.above(place) > 0.22]
    beach = [place for place in spread(stage, h + 0.08, 0.97, 60) if 0.02 < shore.above(place) < 0.45]
    surf = [place for place in spread(stage, h + 0.1, 1.0, 20) if rocky and -0.15 < shore.above(place) < 0.05]
    beach = random.sample(beach, min(len(beach), random.randint(3, 12)))
    standing = [(y, x, "tree") for x, y in green[: random.randint(6, 22)]]
    standing += [(y, x, "rock") for x, y in surf]
    standing += [(y, x, "rock" if rocky and i % 2 else "person") for i, (x, y) in enumerate(beach)]
    for y, x, thing in sorted(standing):
        if thing == "rock":
            rock(stage, x, y, random.uniform(0.4, 1.6))
        elif thing == "person":
            person(stage, x, y)
        elif warm:
            palm(stage, x, y, random.uniform(5, 7.5))
        else:
            tree(stage, x, y, random.uniform(3, 5.5))
