"""A quay with houses behind it, and boats in front of it."""

from __future__ import annotations

from lumora.data.scenes import colour as colours
from lumora.data.scenes.colour import picked
from lumora.data.scenes.kinds.places import backdrop, spread
from lumora.data.scenes.names import PIER
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.buildings import house, lighthouse, pier
from lumora.data.scenes.things.plants import grove
from lumora.data.scenes.things.small import boat, person


def harbour(stage: Stage) -> None:
    """Paint a harbour."""
    random, h, width = stage.random, stage.horizon, stage.width
    backdrop(stage, h)
    land.plain(stage)
    line = h + random.uniform(0.06, 0.13)
    if random.random() < 0.5:
        grove(stage, 0, width, h + 0.01, 8, 0.3)
    _houses(stage, line - 0.014)
    if random.random() < 0.35:
        lighthouse(stage, random.choice((0.08, 0.92)) * width, line, random.uniform(13, 18))
    for x, y in spread(stage, line - 0.008, line, random.randint(0, 6)):
        person(stage, x, y)
    water = _quay(stage, line)
    for _ in range(random.choice((0, 1, 1, 2))):
        x, near = random.random() * width, random.uniform(0.72, 1.1)
        pier(stage, x, near, water, 3.0, random.uniform(-0.15, 0.15))
    for x, y in spread(stage, water + 0.02, 0.97, random.randint(6, 13), 1.5):
        kinds = ("moored", "moored", "motor", "row", "sail") if y < water + 0.16 else ("row", "motor", "row", "moored")
        boat(stage, x, y, random.uniform(6, 9) if y < water + 0.16 else random.uniform(4, 6.5), random.choice(kinds))


def _houses(stage: Stage, foot: float) -> None:
    """A row of houses, with or without gaps."""
    random = stage.random
    x, gap, unit = random.uniform(-0.05, 0.1), random.uniform(0.0, 0.4), 3.0 * stage.metre(foot)
    while x < stage.width + 0.05:
        wide, floors = random.uniform(1.0, 1.8), random.choice((1, 2, 2, 3, 3))
        if random.random() > gap * 0.6:
            house(stage, x, foot - random.uniform(0.0, 0.006), 3.0, floors, wide)
        x += unit * wide * (1 + 0.25 * (floors - 1)) * random.uniform(0.95, 1.3 + gap)


def _quay(stage: Stage, line: float) -> float:
    """The wall along the water; gives back where the water starts."""
    canvas, width, distance = stage.canvas, stage.width, stage.distance(line)
    stone = picked(stage.random, colours.ROCK + " " + colours.WOOD)
    drop = 1.6 * stage.metre(line)
    water = line + drop
    canvas.box(0, line - 0.004, width, line + 0.25 * drop, stage.paint(PIER, stone, distance, 0.8, 0.15))
    canvas.box(0, line + 0.25 * drop, width, water, stage.paint(PIER, stone, distance, 0.3, 0.25))
    stage.water_line = water
    canvas.box(0, water, width, 1.01, land.wet(stage, stage.random.uniform(0.1, 0.35)))
    return water
