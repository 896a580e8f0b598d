"""Trees everywhere, near and far, so that little of the sky is left."""

from __future__ import annotations

from lumora.data.scenes.kinds.places import spread
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.plants import bush, grove, tree
from lumora.data.scenes.things.small import animal, person, rock


def forest(stage: Stage) -> None:
    """Paint a forest."""
    random, h, width = stage.random, stage.horizon, stage.width
    if random.random() < 0.5:
        land.hills(stage, h, random.uniform(0.05, 0.15), 800)
    land.plain(stage)
    firs = random.choice((0.05, 0.3, 0.6, 0.95))
    for depth in (0.02, 0.045):
        grove(stage, -0.05, width + 0.05, h + depth, random.uniform(13, 19), firs)
    path = land.road(stage, 2.6, 0.7, marked=False) if random.random() < 0.55 else None
    land.tufts(stage, h + 0.2, 1.02, 70, land.beside(stage, path, 2.6))
    for x, y in spread(stage, h + 0.06, 0.96, random.randint(22, 36), 1.7):
        if path is not None and abs(x - path(y)) < stage.metre(y) * 1.8:
            continue
        thing = random.random()
        if thing < 0.72:
            tree(stage, x, y, random.uniform(9, 14), firs)
        elif thing < 0.88:
            bush(stage, x, y, random.uniform(0.7, 1.6))
        elif thing < 0.95:
            rock(stage, x, y, random.uniform(0.4, 1.1))
        else:
            animal(stage, x, y, "deer")
    if path is not None:
        for _ in range(random.choice((0, 0, 1, 2))):
            y = random.uniform(h + 0.12, 0.9)
            person(stage, path(y) + random.uniform(-0.5, 0.5) * stage.metre(y), y)
