"""Water that winds from the horizon to the viewer between two banks."""

from __future__ import annotations

from functools import partial

from lumora.data.scenes.colour import mixed, rgb
from lumora.data.scenes.kinds.places import Crowd, backdrop, spread
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.buildings import bridge, house
from lumora.data.scenes.things.plants import bush, grove, tree
from lumora.data.scenes.things.small import animal, boat, person, rock


def river(stage: Stage) -> None:
    """Paint a river."""
    random, h, width = stage.random, stage.horizon, stage.width
    backdrop(stage, h)
    land.plain(stage)
    land.patches(stage, random.randint(0, 4))
    grove(stage, 0, width, h + 0.012, 8, random.random())
    middle, metres = land.winding(stage, random.uniform(0.5, 1.0)), random.uniform(7, 12) * (stage.camera / 5)
    stage.water_line = h + 0.005

    def half(y: float) -> float:
        return stage.metre(y) * metres * 0.5

    def dry(x: float, y: float) -> bool:
        return abs(x - middle(y)) > half(y) * 1.2

    bank = land.level(stage, mixed(stage.ground, rgb("7a6a50"), 0.55))
    stage.canvas.polygon(land.band(h + 0.015, 1.02, middle, lambda y: half(y) * 1.12), bank)
    stage.canvas.polygon(land.band(h + 0.015, 1.02, middle, half), land.wet(stage))
    land.tufts(stage, h + 0.25, 1.02, 50, dry)
    crowd = Crowd()
    if random.random() < 0.55:
        y = h + random.uniform(0.06, 0.2)
        reach = half(y) * 1.35
        crowd.add(y, partial(bridge, stage, middle(y) - reach, middle(y) + reach, y, random.uniform(2.2, 3.4)))
    for x, y in spread(stage, h + 0.03, 1.04, random.randint(12, 30), 1.7):
        if dry(x, y):
            _on_the_bank(stage, crowd, x, y)
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        y = random.uniform(h + 0.12, 0.9)
        x = middle(y) + half(y) * random.uniform(-0.5, 0.5)
        kind = random.choice(("row", "motor", "row", "sail" if y < h + 0.25 else "row"))
        crowd.add(y, partial(boat, stage, x, y, random.uniform(3.5, 5.5), kind))
    crowd.draw()


def _on_the_bank(stage: Stage, crowd: Crowd, x: float, y: float) -> None:
    random = stage.random
    thing = random.random()
    if thing < 0.5:
        crowd.add(y, partial(tree, stage, x, y, random.uniform(4, 7.5)))
    elif thing < 0.68:
        crowd.add(y, partial(bush, stage, x, y, random.uniform(0.8, 1.8)))
    elif thing < 0.78:
        crowd.add(y, partial(rock, stage, x, y, random.uniform(0.4, 1.0)))
    elif thing < 0.86:
        crowd.add(y, partial(animal, stage, x, y))
    elif thing < 0.93:
        crowd.add(y, partial(person, stage, x, y))
    else:
        crowd.add(y, partial(house, stage, x, y, 3.0))
