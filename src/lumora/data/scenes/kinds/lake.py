"""Still water closed in by a far bank, seen from a near one."""

from __future__ import annotations

from lumora.data.scenes.colour import mixed, rgb
from lumora.data.scenes.kinds.places import backdrop, spread
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.buildings import house, pier
from lumora.data.scenes.things.plants import bush, grove, tree
from lumora.data.scenes.things.small import animal, boat, person, rock

_STEPS = 24


def lake(stage: Stage) -> None:
    """Paint a lake."""
    random, h, width = stage.random, stage.horizon, stage.width
    backdrop(stage, h, 0.26)
    land.plain(stage)
    far = h + random.uniform(0.015, 0.05)
    grove(stage, -0.05, width * random.uniform(0.6, 1.05), far - 0.003, random.uniform(5, 9), random.random())
    for _ in range(random.choice((0, 0, 1, 2))):
        house(stage, random.uniform(0.1, 0.9) * width, far, 3.0)
    near, bank = random.uniform(0.74, 0.9), random.uniform(0.02, 0.09)
    heights = [near + bank * step for step in stage.ridge(0.5, 0.3, _STEPS)]
    _water(stage, far, heights)
    for x, y in spread(stage, far + 0.04, near - 0.14, random.randint(0, 3)):
        boat(stage, x, y, random.uniform(4, 6), random.choice(("row", "row", "sail")))
    if random.random() < 0.4:
        end, lean = near - random.uniform(0.12, 0.25), random.uniform(-0.1, 0.1)
        pier(stage, random.uniform(0.15, 0.85) * width, near + 0.06, end, 2.2, lean)
    land.tufts(stage, near + 0.02, 1.02, 60, lambda x, y: y > heights[min(_STEPS, int(x / width * _STEPS))] + 0.03)
    _bank(stage, near + bank * 0.6 + 0.03)


def _water(stage: Stage, far: float, heights: list[float]) -> None:
    random, width = stage.random, stage.width
    stage.water_line = far
    near = [(width * i / _STEPS, y) for i, y in reversed(list(enumerate(heights)))]
    mud = land.level(stage, mixed(stage.ground, rgb("8a7a60"), 0.5))
    top = (0.0, far, width, far)
    stage.canvas.polygon([*top, *(v for x, y in near for v in (x, y + 0.012))], mud)
    stage.canvas.polygon([*top, *(v for place in near for v in place)], land.wet(stage, random.uniform(0.06, 0.28)))


def _bank(stage: Stage, low: float) -> None:
    """What stands on the near bank."""
    random = stage.random
    for x, y in spread(stage, low, 1.03, random.randint(0, 5)):
        thing = random.random()
        if thing < 0.3:
            rock(stage, x, y, random.uniform(0.3, 0.8))
        elif thing < 0.55:
            bush(stage, x, y, random.uniform(0.6, 1.4))
        elif thing < 0.8:
            person(stage, x, y)
        else:
            animal(stage, x, y, "deer")
    if random.random() < 0.6:
        x = random.choice((0.04, 0.96)) * stage.width
        tree(stage, x, random.uniform(low, 1.05), random.uniform(4, 6), 0.35)
