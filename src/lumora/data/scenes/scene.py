"""One scene: picture, mask and kind from a seed, an index and a size."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lumora.data.scenes import colour as colours
from lumora.data.scenes import kinds, shading
from lumora.data.scenes.canvas import FINER, HEAVEN, Canvas, Paint, mask_of
from lumora.data.scenes.colour import few, picked, rgb
from lumora.data.scenes.kinds.places import birds
from lumora.data.scenes.light import light_of
from lumora.data.scenes.names import CLOUD, KINDS, SKY, SUN
from lumora.data.scenes.stage import Stage
from lumora.errors import DataError

Size = int | tuple[int, int]

SMALLEST: Final = 8
"""Pixels along a side; less than that shows nothing."""


@dataclass(frozen=True)
class Scene:
    """A picture, what each of its pixels shows, and the kind of scene it is."""

    picture: NDArray[np.uint8]
    """(H, W, 3), red, green, blue."""
    mask: NDArray[np.uint8]
    """(H, W) of ids in `CLASSES`."""
    kind: int
    """Its place in `KINDS`."""


def kind_of(seed: int, index: int) -> int:
    """The kind of a scene; of eight scenes in a row that start at a multiple of eight, each is of another kind."""
    block, place = divmod(index, len(KINDS))
    order = list(range(len(KINDS)))
    Random(f"kinds {seed} {block}").shuffle(order)
    return order[place]


def height_and_width(size: Size) -> tuple[int, int]:
    """Both sides of a picture, checked."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < SMALLEST or max(height, width) > 8 * min(height, width):
        raise DataError(
            f"A scene of {height} × {width} pixels was asked for. Both sides must have at least {SMALLEST}, and the "
            "longer one at most 8 times as many as the shorter one."
        )
    return height, width


def scene(seed: int, index: int, size: Size = 256) -> Scene:
    """Make a scene; the same numbers give the same bytes, in any order and any process.

    Another size shows the same scene, if height and width have the same ratio.

    >>> made = scene(seed=0, index=4, size=(48, 64))
    >>> made.picture.shape, made.mask.shape, KINDS[made.kind]
    ((48, 64, 3), (48, 64), 'village')

    Args:
        seed: of the whole series.
        index: the scene's place in it, from 0.
        size: the picture's side, or (height, width).
    """
    height, width = height_and_width(size)
    kind = kind_of(seed, index)
    random = Random(f"scene {seed} {index}")
    stage = _stage(random, KINDS[kind], Canvas(height, width))
    grid = shading.Grid(FINER * height, FINER * width, stage.canvas.scale, random.randrange(1 << 20))
    rows = min(grid.rows, int(grid.scale * (stage.horizon + 0.02)) + 1)
    colours_of_sky, density, cloudy = shading.heaven(grid, stage.light, stage.horizon, rows)
    _sky(stage, cloudy)
    kinds.BY_NAME[KINDS[kind]].paint(stage)
    birds(stage)
    numbers = stage.canvas.numbers()
    classes = np.array([paint.kind for paint in stage.canvas.paints], np.uint8)
    picture = shading.picture(stage, grid, (colours_of_sky, density), numbers)
    return Scene(picture, mask_of(numbers, classes), kind)


def _stage(random: Random, kind: str, canvas: Canvas) -> Stage:
    light = light_of(random)
    view = kinds.BY_NAME[kind]
    leaves = tuple(picked(random, colours.LEAVES[light.season]) for _ in range(random.choice((1, 2, 3))))
    ground = picked(random, colours.GROUND[light.season])
    return Stage(
        canvas,
        random,
        light,
        random.uniform(*view.horizon),
        random.uniform(*view.camera),
        ground,
        leaves,
        picked(random, colours.NEEDLES),
        picked(random, colours.WATER),
        few(random, colours.WALL, random.randint(1, 4)),
        few(random, colours.ROOF, random.randint(1, 3)),
        few(random, colours.PAINT + " " + colours.WOOD, random.randint(2, 4)),
    )


def _sky(stage: Stage, cloudy: NDArray[np.bool_]) -> None:
    """Sky, sun or moon, and the clouds in front of it."""
    canvas, light = stage.canvas, stage.light
    canvas.new(Paint(SKY, light.zenith, material=HEAVEN))
    if light.sun is not None:
        x, y = light.sun[0] * stage.width, light.sun[1] * stage.horizon
        radius = stage.random.uniform(0.022, 0.045)
        canvas.ellipse(x, y, radius, radius, canvas.new(Paint(SUN, rgb("fff4d8"), material=HEAVEN)))
    if light.cover > 0:
        canvas.place(cloudy, canvas.new(Paint(CLOUD, light.horizon, material=HEAVEN)))
