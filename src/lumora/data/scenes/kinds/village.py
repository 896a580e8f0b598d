"""Houses on both sides of a road, and a church among them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lumora.data.scenes.kinds.places import Crowd, backdrop
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.buildings import church, fence, house
from lumora.data.scenes.things.plants import grove, tree
from lumora.data.scenes.things.small import car, person


def village(stage: Stage) -> None:
    """Paint a village."""
    random, h, width = stage.random, stage.horizon, stage.width
    backdrop(stage, h, 0.22)
    land.plain(stage)
    grove(stage, 0, width, h + 0.01, 8, 0.3)
    metres = random.uniform(4.5, 7)
    middle = land.road(stage, metres, random.uniform(0.1, 0.5))
    land.tufts(stage, h + 0.25, 1.02, 40, lambda x, y: abs(x - middle(y)) > stage.metre(y) * metres * 0.6)
    crowd = Crowd()
    if random.random() < 0.6:
        y = h + random.uniform(0.04, 0.07)
        x = middle(y) + random.choice((-1.0, 1.0)) * stage.metre(y) * random.uniform(12, 22)
        crowd.add(y, partial(church, stage, x, y, random.uniform(15, 20)))
    for side in (-1.0, 1.0):
        _row(stage, crowd, middle, metres, side)
    _traffic(stage, crowd, middle, metres)
    crowd.draw()


def _row(stage: Stage, crowd: Crowd, middle: Callable[[float], float], metres: float, side: float) -> None:
    """Houses, trees and fences along one side of the road, from far to near."""
    random, h = stage.random, stage.horizon
    away, nearest = random.uniform(60, 80), stage.camera / (1.0 - h) * random.uniform(1.0, 1.5)
    while away > nearest:
        y = h + stage.camera / away
        unit, edge = stage.metre(y), middle(y)
        for row in range(2 if away > 18 else 1):
            x = edge + side * unit * (metres * 0.5 + random.uniform(3.5, 5.5) + row * random.uniform(9, 13))
            if random.random() < 0.88:
                floors, wide = random.choice((1, 1, 2)), random.uniform(1.3, 2.0)
                crowd.add(y - row * 0.004, partial(house, stage, x, y - row * 0.004, 2.8, floors, wide))
        if random.random() < 0.5:
            x = edge + side * unit * (metres * 0.5 + 1.2)
            crowd.add(y + 0.004, partial(tree, stage, x, y + 0.004, random.uniform(3.5, 6), 0.2))
        elif random.random() < 0.35:
            x = edge + side * unit * (metres * 0.5 + 0.8)
            crowd.add(y + 0.006, partial(fence, stage, x, y + 0.006, x + side * unit * 7, y + 0.006))
        away *= random.uniform(0.62, 0.8)


def _traffic(stage: Stage, crowd: Crowd, middle: Callable[[float], float], metres: float) -> None:
    random, h = stage.random, stage.horizon
    for _ in range(random.randint(0, 3)):
        y = h + (0.93 - h) * random.uniform(0.15, 0.9)
        lane = random.choice((-1, 1)) * stage.metre(y) * metres * 0.24
        crowd.add(y, partial(car, stage, middle(y) + lane, y))
    for _ in range(random.randint(0, 5)):
        y = h + (0.97 - h) * random.uniform(0.12, 1)
        edge = random.choice((-1, 1)) * stage.metre(y) * metres * random.uniform(0.45, 0.75)
        crowd.add(y, partial(person, stage, middle(y) + edge, y))
