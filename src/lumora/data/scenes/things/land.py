"""Mountains, hills, the level ground, water, roads."""

from __future__ import annotations

import math
from collections.abc import Callable

from lumora.data.scenes import colour as colours
from lumora.data.scenes.canvas import PLANE, POND, Paint
from lumora.data.scenes.colour import RGB, mixed, picked, rgb, times, varied
from lumora.data.scenes.names import GROUND, MOUNTAIN, ROAD, WATER
from lumora.data.scenes.stage import Stage, under
from lumora.data.scenes.things.plants import clump


def mountains(stage: Stage, base: float, high: float, metres: float) -> None:
    """A range of peaks that rises `high` above `base`, `metres` away."""
    random, canvas, light = stage.random, stage.canvas, stage.light
    stone = picked(random, colours.MOUNTAIN)
    steps = 64
    heights = [0.12 * high * random.random()] * (steps + 1)
    for _ in range(max(2, round(random.uniform(3, 5) * stage.width))):
        peak, top = random.uniform(-0.1, 1.1), high * random.uniform(0.45, 1.0)
        left, right = random.uniform(0.14, 0.34), random.uniform(0.14, 0.34)
        for i in range(steps + 1):
            away = i / steps - peak
            fall = abs(away) * stage.width / (left if away < 0 else right)
            heights[i] = max(heights[i], top * (1 - fall) + 0.04 * high)
    heights = [h + high * 0.045 * random.uniform(-1, 1) for h in heights]
    number = canvas.new(Paint(MOUNTAIN, stone, metres, 0.55, 0.2, craggy=random.uniform(1.6, 2.6)))
    flat = under(heights, base, stage.width, base + 0.05)
    canvas.polygon(flat, number)
    share = {"winter": 0.35, "spring": 0.6, "autumn": 0.7, "summer": 0.8}[light.season] + random.uniform(-0.15, 0.3)
    if share < 0.95:
        _snow(stage, heights, base, high, share, number)


def _snow(stage: Stage, heights: list[float], base: float, high: float, share: float, below: int) -> None:
    """Cover what rises above a share of the range's height, with a ragged lower edge."""
    random, paint = stage.random, stage.canvas.paints[below]
    number = stage.canvas.new(Paint(MOUNTAIN, rgb("f2f5fa"), paint.distance, 0.7, 0.1, craggy=paint.craggy * 0.4))
    last = len(heights) - 1
    run: list[tuple[float, float, float]] = []
    for i in range(last + 1):
        edge = high * share + high * random.uniform(-0.1, 0.1) + (0.07 * high if i % 2 else -0.07 * high)
        x = stage.width * i / last
        if heights[i] > edge:
            run.append((x, heights[i], edge))
        if run and (heights[i] <= edge or i == last):
            # The cap ends where the slope meets the edge, close to the first bare place.
            lead = [(x0, base - top) for x0, top, _ in run]
            tail = [(x0, base - edge0) for x0, _, edge0 in reversed(run)]
            if len(run) > 1:
                stage.canvas.polygon([v for point in lead + tail for v in point], number)
            run = []


def hills(stage: Stage, base: float, high: float, metres: float, ground: RGB | None = None, trees: float = 0.5) -> None:
    """Rounded hills, with trees along their crest."""
    random = stage.random
    heights = [high * 0.5 + h for h in stage.ridge(high * 0.5, random.uniform(0.25, 0.5))]
    colour = varied(random, ground or stage.ground, 0.08)
    number = stage.canvas.new(Paint(GROUND, colour, metres, random.uniform(0.35, 0.7), 0.16))
    stage.canvas.polygon(under(heights, base, stage.width, base + 0.06), number)
    if random.random() > trees:
        return
    last = len(heights) - 1
    kinds = [
        stage.paint(
            7, times(varied(random, stage.needles if random.random() < 0.4 else stage.leaf()), 0.8), metres, lit, 0.25
        )
        for lit in (0.2, 0.45, 0.65)
    ]
    size = high * random.uniform(0.1, 0.16) + 0.006
    for _ in range(round(random.uniform(15, 60) * stage.width)):
        place = random.random()
        i = min(int(place * last), last - 1)
        top = heights[i] + (heights[i + 1] - heights[i]) * (place * last - i)
        drop = random.random() ** 2 * max(top, 0) * 0.9
        tall = size * random.uniform(0.6, 1.2)
        clump(stage, place * stage.width, base - top + drop - tall * 0.3, tall * 0.7, tall * 0.8, random.choice(kinds))


def level(stage: Stage, colour: RGB, rough: float = 0.26) -> int:
    """A paint for the level ground."""
    return stage.canvas.new(Paint(GROUND, colour, 0.0, 0.62, rough, PLANE))


def plain(stage: Stage, colour: RGB | None = None) -> None:
    """Ground from the horizon to the viewer's feet."""
    stage.canvas.box(0, stage.horizon, stage.width, 1.01, level(stage, colour or stage.ground))


def patches(stage: Stage, count: int) -> None:
    """Fields of several colours whose sides lead to the horizon."""
    random, h = stage.random, stage.horizon
    vanish = random.uniform(0.2, 0.8) * stage.width
    for _ in range(count):
        top = h + (1 - h) * random.random() ** 2 * 0.7
        bottom = min(1.01, h + (top - h) * random.uniform(1.4, 3))
        a = random.uniform(-2, 3) * stage.width
        b = a + random.uniform(0.4, 1.6)

        def at(x: float, y: float) -> tuple[float, float]:
            return vanish + (x - vanish) * (y - h) / (1 - h), y

        palette = colours.GROUND[stage.light.season] + " a8904a c2ae62"
        number = level(stage, picked(random, palette))
        stage.canvas.polygon([*at(a, top), *at(b, top), *at(b, bottom), *at(a, bottom)], number)
        if random.random() < 0.5:
            _furrows(stage, (a, b, top, bottom), at, number)


def _furrows(
    stage: Stage,
    field: tuple[float, float, float, float],
    at: Callable[[float, float], tuple[float, float]],
    number: int,
) -> None:
    """Rows of a crop."""
    a, b, top, bottom = field
    shade = stage.random.uniform(0.72, 0.88)
    dark = level(stage, times(stage.canvas.paints[number].colour, shade))
    count = 12
    for i in range(count):
        left, right = a + (b - a) * i / count, a + (b - a) * (i + 0.45) / count
        stage.canvas.polygon([*at(left, top), *at(right, top), *at(right, bottom), *at(left, bottom)], dark)


def wet(stage: Stage, calm: float | None = None) -> int:
    """A paint for water."""
    rough = stage.random.uniform(0.1, 0.4) if calm is None else calm
    return stage.canvas.new(Paint(WATER, stage.water, 0.0, 0.6, rough, POND))


def band(far: float, near: float, middle: Callable[[float], float], half: Callable[[float], float]) -> list[float]:
    """The outline of a band on the ground, from the height `far` to `near`, around a line that may wind."""
    left: list[tuple[float, float]] = []
    right: list[tuple[float, float]] = []
    steps = 28
    for i in range(steps + 1):
        y = far + (near - far) * (i / steps) ** 2
        x, reach = middle(y), half(y)
        left.append((x - reach, y))
        right.append((x + reach, y))
    return [v for point in left + right[::-1] for v in point]


def winding(stage: Stage, bends: float) -> Callable[[float], float]:
    """Where the middle of a road or river is at a height of the picture."""
    random, h = stage.random, stage.horizon
    start, end = random.uniform(0.3, 0.7) * stage.width, random.uniform(0.15, 0.85) * stage.width
    swing, phase = random.uniform(0.5, 1.0) * bends, random.uniform(0, 6.28)

    def middle(y: float) -> float:
        share = min(max((y - h) / (1 - h), 1e-4), 1.2)
        wave = math.sin(phase + 2.2 * math.log(share + 0.03)) - math.sin(phase + 2.2 * math.log(1.03))
        return start + (end - start) * share + swing * wave * (share**0.75) * 0.45

    return middle


def road(stage: Stage, metres: float, bends: float = 0.4, marked: bool = True) -> Callable[[float], float]:
    """A road from the horizon to the viewer; gives back where its middle is."""
    random, h = stage.random, stage.horizon
    middle = winding(stage, bends)
    far = h + (1 - h) * 0.01
    colour = picked(random, colours.ROAD)
    if stage.light.season == "winter" and random.random() < 0.5:
        colour = mixed(colour, rgb("e4e8ee"), 0.7)
    edge = level(stage, times(stage.ground, 0.85))
    number = stage.canvas.new(Paint(ROAD, colour, 0.0, 0.62, 0.12, PLANE))
    stage.canvas.polygon(band(far, 1.02, middle, lambda y: stage.metre(y) * metres * 0.58), edge)
    stage.canvas.polygon(band(far, 1.02, middle, lambda y: stage.metre(y) * metres * 0.5), number)
    if marked and metres > 4 and random.random() < 0.75:
        paint = stage.canvas.new(Paint(ROAD, rgb("e8e4d8"), 0.0, 0.7, 0.1, PLANE))
        away = stage.distance(1.0)
        while away < 90:
            y0, y1 = h + stage.camera / away, h + stage.camera / (away + 2.2)
            half0, half1 = stage.metre(y0) * 0.12, stage.metre(y1) * 0.12
            x0, x1 = middle(y0), middle(y1)
            stage.canvas.polygon((x0 - half0, y0, x0 + half0, y0, x1 + half1, y1, x1 - half1, y1), paint)
            away += 5.5
    return middle


def beside(stage: Stage, middle: Callable[[float], float] | None, metres: float) -> Callable[[float, float], bool]:
    """Whether a place is not on the road; everywhere, if there is none."""
    if middle is None:
        return lambda x, y: True
    return lambda x, y: abs(x - middle(y)) > stage.metre(y) * metres * 0.62


def tufts(
    stage: Stage, top: float, bottom: float, count: int, within: Callable[[float, float], bool] | None = None
) -> None:
    """Grass, flowers and pebbles near the viewer; they are ground."""
    random = stage.random
    flower = random.choice("f0f0f0 e8d050 d06080 a070c0 e07040".split())
    blade = level(stage, times(stage.ground, 0.8))
    bright = level(stage, times(stage.ground, 1.15))
    bloom = level(stage, rgb(flower))
    flowers = stage.light.season in ("spring", "summer") and random.random() < 0.5
    for _ in range(round(count * stage.width)):
        x, y = random.random() * stage.width, top + (bottom - top) * random.random()
        if within is not None and not within(x, y):
            continue
        tall = stage.metre(y) * random.uniform(0.12, 0.3)
        if flowers and random.random() < 0.4:
            stage.canvas.ellipse(x, y - tall, tall * 0.22, tall * 0.2, bloom)
            continue
        half = tall * 0.5
        number = blade if random.random() < 0.6 else bright
        fan = (x - half, y - tall * 0.8, x - half * 0.2, y - tall * 0.3, x, y - tall, x + half * 0.2, y - tall * 0.35)
        stage.canvas.polygon((x - half * 0.5, y, *fan, x + half, y - tall * 0.75, x + half * 0.5, y), number)
