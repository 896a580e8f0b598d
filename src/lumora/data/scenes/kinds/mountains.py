"""Peaks that fill the view, with meadows and firs at their feet."""

from __future__ import annotations

from lumora.data.scenes.kinds.places import spread
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things import land
from lumora.data.scenes.things.buildings import house
from lumora.data.scenes.things.plants import grove, tree
from lumora.data.scenes.things.small import animal, person, rock


def mountains(stage: Stage) -> None:
    """Paint high mountains."""
    random, h, width = stage.random, stage.horizon, stage.width
    tall = h * random.uniform(0.62, 0.92)
    land.mountains(stage, h, tall, random.uniform(2500, 5000))
    if random.random() < 0.7:
        land.mountains(stage, h, tall * random.uniform(0.4, 0.62), random.uniform(1200, 2000))
    land.hills(stage, h, random.uniform(0.05, 0.14), 500, trees=0.7)
    land.plain(stage)
    land.patches(stage, random.choice((0, 0, 2)))
    path = land.road(stage, 2.2, 0.8, marked=False) if random.random() < 0.35 else None
    if path is None and random.random() < 0.35:
        _tarn(stage)
    firs = random.uniform(0.5, 1.0)
    if random.random() < 0.6:
        grove(stage, -0.02, width * random.uniform(0.3, 1.0), h + 0.012, 9, firs)
    land.tufts(stage, h + 0.2, 1.02, 50, land.beside(stage, path, 2.2))
    for x, y in spread(stage, h + 0.03, 1.02, random.randint(8, 26), 2.0):
        thing = random.random()
        if thing < 0.55:
            tree(stage, x, y, random.uniform(5, 8), firs)
        elif thing < 0.8:
            rock(stage, x, y, random.uniform(0.5, 2.0))
        elif thing < 0.86:
            house(stage, x, min(y, h + 0.25), 2.6)
        elif thing < 0.93:
            animal(stage, x, y)
        else:
            person(stage, x, y)


def _tarn(stage: Stage) -> None:
    """A small lake below the peaks."""
    random, width = stage.random, stage.width
    y = stage.horizon + random.uniform(0.08, 0.2)
    stage.water_line = y - 0.05
    long, broad = random.uniform(0.2, 0.45) * width, random.uniform(0.025, 0.05)
    stage.canvas.ellipse(random.uniform(0.2, 0.8) * width, y, long, broad, land.wet(stage, 0.1))
