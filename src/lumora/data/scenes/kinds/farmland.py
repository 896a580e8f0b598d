"""Open fields with a farm, animals, fences and a tree here and there."""

from __future__ import annotations

from functools import partial

from lumora.data.scenes.kinds.places import Crowd, backdrop, spread
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.buildings import fence, house, windmill
from lumora.data.scenes.things.plants import grove, tree
from lumora.data.scenes.things.small import animal, bale, car, person


def farmland(stage: Stage) -> None:
    """Paint fields."""
    random, h, width = stage.random, stage.horizon, stage.width
    backdrop(stage, h, 0.1)
    land.plain(stage)
    land.patches(stage, random.randint(6, 12))
    if random.random() < 0.5:
        left, right = random.uniform(0, 0.5) * width, random.uniform(0.6, 1) * width
        grove(stage, left, right, h + 0.008, 7, 0.2)
    crowd = Crowd()
    metres = random.uniform(2.5, 5)
    road = land.road(stage, metres, 0.3, marked=random.random() < 0.5) if random.random() < 0.4 else None
    if road is not None and random.random() < 0.5:
        y = random.uniform(h + 0.1, 0.85)
        crowd.add(y, partial(car, stage, road(y), y))
    land.tufts(stage, h + 0.25, 1.02, 50, land.beside(stage, road, metres))
    _farm(stage, crowd)
    _herd(stage, crowd)
    for x, y in spread(stage, h + 0.02, 0.8, random.randint(1, 5), 1.8):
        crowd.add(y, partial(tree, stage, x, y, random.uniform(3.5, 6), 0.2))
    if random.random() < 0.35:
        y = random.uniform(h + 0.1, 0.95)
        crowd.add(y, partial(person, stage, random.uniform(0.1, 0.9) * width, y))
    crowd.draw()


def _farm(stage: Stage, crowd: Crowd) -> None:
    """A farmhouse under a tree, or a windmill."""
    random = stage.random
    x, y = random.uniform(0.12, 0.88) * stage.width, stage.horizon + random.uniform(0.04, 0.1)
    if random.random() < 0.6:
        crowd.add(y, partial(house, stage, x, y, 3.4, 1, 2.2))
        crowd.add(y + 0.004, partial(tree, stage, x + stage.metre(y) * 7, y + 0.004, 8, 0.1))
    elif random.random() < 0.5:
        crowd.add(y, partial(windmill, stage, x, y, random.uniform(13, 17)))


def _herd(stage: Stage, crowd: Crowd) -> None:
    """Animals of a kind behind or before a fence, or bales of hay."""
    random, h, width = stage.random, stage.horizon, stage.width
    kind = random.choice(("cow", "sheep", "horse"))
    hay = random.random() < 0.25
    for x, y in spread(stage, h + 0.08, 0.95, random.randint(3, 10), 1.4):
        crowd.add(y, partial(bale, stage, x, y) if hay else partial(animal, stage, x, y, kind))
    if random.random() < 0.6:
        y, slope = random.uniform(h + 0.12, 0.85), random.uniform(-0.12, 0.12)
        for i in range(3):
            x0, x1 = -0.02 + (width + 0.04) * i / 3, -0.02 + (width + 0.04) * (i + 1) / 3
            y0, y1 = max(y + slope * i / 3, h + 0.03), max(y + slope * (i + 1) / 3, h + 0.03)
            crowd.add(y, partial(fence, stage, x0, y0, x1, y1))
