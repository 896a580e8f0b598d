"""Trees and bushes."""

from __future__ import annotations

import math
from functools import cache
from random import Random

from lumora.data.scenes.colour import RGB, mixed, rgb, times, varied
from lumora.data.scenes.names import TREE
from lumora.data.scenes.stage import Stage


@cache
def _outlines() -> tuple[tuple[tuple[float, float], ...], ...]:
    """Ragged discs of radius 1."""
    random = Random(5)
    made: list[tuple[tuple[float, float], ...]] = []
    for _ in range(24):
        turn = random.random()
        made.append(
            tuple(
                (r * math.cos(a), r * math.sin(a))
                for a, r in ((6.2832 * (i + turn) / 15, random.uniform(0.78, 1.16)) for i in range(15))
            )
        )
    return tuple(made)


def clump(stage: Stage, x: float, y: float, rx: float, ry: float, number: int) -> None:
    """A ragged disc of leaves."""
    outline = stage.random.choice(_outlines())
    stage.canvas.polygon([v for px, py in outline for v in (x + rx * px, y + ry * py)], number)


def crown(stage: Stage, x: float, y: float, rx: float, ry: float, colour: RGB, distance: float) -> None:
    """Many clumps around a centre, dark below and away from the light, bright towards it."""
    stage = stage.apart()
    random, canvas = stage.random, stage.canvas
    size = rx * canvas.scale
    count = 3 if size < 6 else 7 if size < 16 else 14 if size < 40 else 24
    steps = [
        stage.paint(TREE, times(varied(random, colour, 0.03), 0.62 + 0.12 * i), distance, 0.1 + 0.22 * i, 0.3)
        for i in range(5)
    ]
    clump(stage, x, y, rx * 0.8, ry * 0.8, steps[1])
    share = 0.62 if count < 8 else 0.46 if count < 20 else 0.36
    for i in range(count):
        turn, reach = random.uniform(0, 6.283), math.sqrt(random.random()) * 0.72
        dx, dy = math.cos(turn) * reach, math.sin(turn) * reach
        towards = -0.55 * dy + 0.45 * dx * stage.light.side + i / count * 0.35 - 0.17
        step = min(4, max(0, round(2 + 3.4 * towards)))
        size = share * random.uniform(0.75, 1.15)
        clump(stage, x + dx * rx, y + dy * ry, size * rx, size * ry, steps[step])


def broadleaf(stage: Stage, x: float, y: float, metres: float, colour: RGB | None = None) -> None:
    """A tree with a round crown."""
    random, distance = stage.random, stage.distance(y)
    tall = metres * stage.metre(y)
    bark = stage.paint(TREE, varied(random, rgb("6a5644")), distance, 0.35, 0.25)
    wide = tall * random.uniform(0.3, 0.42)
    stage.shadow(x, y, wide * 1.6, tall)
    stem, lean = tall * 0.035, random.uniform(-0.05, 0.05) * tall
    top = y - tall * 0.55
    stage.canvas.polygon(
        (x - stem * 1.3, y, x - stem * 0.6 + lean, top, x + stem * 0.6 + lean, top, x + stem * 1.3, y), bark
    )
    for end in (-0.5, 0.5):
        stage.canvas.line((x + lean * 0.5, y - tall * 0.3, x + lean + end * wide, y - tall * 0.6), stem * 0.6, bark)
    colour = colour or stage.leaf()
    crown(stage, x + lean, y - tall * 0.66, wide, tall * random.uniform(0.3, 0.36), colour, distance)


def poplar(stage: Stage, x: float, y: float, metres: float) -> None:
    """A slender tree."""
    tall = metres * stage.metre(y)
    bark = stage.paint(TREE, rgb("6a5644"), stage.distance(y), 0.35)
    stage.shadow(x, y, tall * 0.2, tall)
    stage.canvas.box(x - tall * 0.015, y - tall * 0.2, x + tall * 0.015, y, bark)
    crown(stage, x, y - tall * 0.54, tall * 0.115, tall * 0.45, stage.leaf(), stage.distance(y))


def conifer(stage: Stage, x: float, y: float, metres: float) -> None:
    """A fir: jagged tiers, one side lit; with snow on them in winter."""
    stage = stage.apart()
    random, canvas, light = stage.random, stage.canvas, stage.light
    tall, distance = metres * stage.metre(y), stage.distance(y)
    colour = varied(random, stage.needles)
    bark = stage.paint(TREE, rgb("54463a"), distance, 0.3)
    dark = stage.paint(TREE, times(colour, 0.75), distance, 0.2, 0.3)
    bright = stage.paint(TREE, colour, distance, 0.8, 0.3)
    white = light.season == "winter" and stage.paint(TREE, rgb("e6ebf2"), distance, 0.6, 0.1)
    stage.shadow(x, y, tall * 0.3, tall)
    canvas.box(x - tall * 0.02, y - tall * 0.15, x + tall * 0.02, y, bark)
    wide = tall * random.uniform(0.16, 0.24)
    tiers = 3 if tall * canvas.scale < 24 else 5 if tall * canvas.scale < 90 else 7
    for i in range(tiers):
        low = y - tall * (0.08 + 0.84 * i / tiers)
        high = min(low - tall * 1.5 / tiers, y - tall * (0.1 + 0.9 * (i + 1) / tiers))
        half = wide * (1 - 0.86 * i / tiers) * random.uniform(0.9, 1.1)
        droop = tall * 0.25 / tiers
        fringe = (x - half, low + droop, x - half * 0.6, low - droop * 0.4, x - half * 0.3, low + droop * 0.7)
        back = (x, low - droop * 0.2, x + half * 0.35, low + droop * 0.7, x + half * 0.65, low - droop * 0.4)
        canvas.polygon((x, high, *fringe, *back, x + half, low + droop), dark)
        side = half * light.side
        lit = (x + side * 0.15, low, x + side * 0.4, low + droop * 0.6, x + side * 0.65, low - droop * 0.4)
        canvas.polygon((x, high, *lit, x + side, low + droop), bright)
        if white:
            edge = low - (low - high) * 0.45
            canvas.polygon(
                (x, high, x - half * 0.5, edge + droop, x, edge - droop, x + half * 0.5, edge + droop), white
            )


def bare(stage: Stage, x: float, y: float, metres: float) -> None:
    """A tree without leaves."""
    stage = stage.apart()
    tall = metres * stage.metre(y)
    bark = stage.paint(TREE, varied(stage.random, rgb("5f5248")), stage.distance(y), 0.4, 0.2)
    stage.shadow(x, y, tall * 0.3, tall * 0.5)
    levels = 5 if tall * stage.canvas.scale > 120 else 4 if tall * stage.canvas.scale > 50 else 3
    _branch(stage, x, y, tall * 0.36, stage.random.uniform(-0.06, 0.06), tall * 0.04, levels, bark)


def _branch(stage: Stage, x: float, y: float, long: float, turn: float, thick: float, levels: int, bark: int) -> None:
    ex, ey = x + long * math.sin(turn), y - long * math.cos(turn)
    stage.canvas.line((x, y, ex, ey), thick, bark)
    if levels == 0:
        return
    for spread in (-0.5, 0.08, 0.5) if levels > 2 else (-0.45, 0.4):
        angle = turn + spread + stage.random.uniform(-0.2, 0.2)
        _branch(stage, ex, ey, long * stage.random.uniform(0.6, 0.8), angle, thick * 0.6, levels - 1, bark)


def palm(stage: Stage, x: float, y: float, metres: float) -> None:
    """A palm, leaning."""
    random, tall, distance = stage.random, metres * stage.metre(y), stage.distance(y)
    bark = stage.paint(TREE, rgb("8a7458"), distance, 0.5, 0.25)
    lean = random.uniform(-0.25, 0.25) * tall
    stage.shadow(x, y, tall * 0.4, tall * 0.6)
    spine = [v for i in range(7) for v in (x + lean * (i / 6) ** 2, y - tall * 0.85 * i / 6)]
    stage.canvas.line(spine, tall * 0.035, bark)
    colour = stage.leaf() if stage.light.season in ("spring", "summer") else rgb("6f7f3c")
    tx, ty = x + lean, y - tall * 0.85
    for i in range(9):
        turn = -0.35 + 3.84 * i / 8 + random.uniform(-0.15, 0.15)
        long = tall * random.uniform(0.34, 0.44)
        number = stage.paint(TREE, times(colour, random.uniform(0.7, 1.1)), distance, 0.35 + 0.4 * math.sin(turn), 0.2)
        mx, my = tx + 0.6 * long * math.cos(turn), ty - 0.55 * long * math.sin(turn) - 0.1 * long
        ex, ey = tx + long * math.cos(turn), ty - 0.3 * long * math.sin(turn) + 0.25 * long
        stage.canvas.polygon((tx, ty, mx, my - long * 0.07, ex, ey, mx, my + long * 0.09), number)


def bush(stage: Stage, x: float, y: float, metres: float) -> None:
    """Leaves down to the ground."""
    tall = metres * stage.metre(y)
    stage.shadow(x, y, tall * 1.5, tall)
    crown(
        stage, x, y - tall * 0.42, tall * stage.random.uniform(0.55, 0.8), tall * 0.5, stage.leaf(), stage.distance(y)
    )


def tree(stage: Stage, x: float, y: float, metres: float, firs: float = 0.3) -> None:
    """Some tree of the season; a share of them are firs."""
    random = stage.random
    if random.random() < firs:
        conifer(stage, x, y, metres * random.uniform(0.9, 1.3))
    elif stage.light.season == "winter" and random.random() < 0.75:
        bare(stage, x, y, metres)
    elif random.random() < 0.12:
        poplar(stage, x, y, metres * 1.4)
    else:
        broadleaf(stage, x, y, metres)


def grove(stage: Stage, left: float, right: float, y: float, metres: float, firs: float) -> None:
    """A row of trees far away, drawn as little as they can be seen."""
    stage = stage.apart()
    random = stage.random
    if metres * stage.metre(y) > 0.06:
        x = left
        while x < right:
            tree(stage, x, y + random.uniform(0, 0.01), metres * random.uniform(0.7, 1.2), firs)
            x += metres * stage.metre(y) * random.uniform(0.3, 0.8)
        return
    distance, tall = stage.distance(y), metres * stage.metre(y)
    tall = max(tall, 0.012)
    x = left
    while x < right:
        high = tall * random.uniform(0.6, 1.15)
        if random.random() < firs:
            colour = times(varied(random, stage.needles, 0.04), 0.95)
            half = high * 0.26
            number = stage.paint(TREE, colour, distance, random.uniform(0.2, 0.7), 0.3)
            stage.canvas.polygon((x - half, y + 0.002, x, y - high * 1.2, x + half, y + 0.002), number)
        else:
            number = stage.paint(TREE, times(stage.leaf(), 0.85), distance, random.uniform(0.2, 0.7), 0.3)
            clump(stage, x, y - high * 0.45, high * 0.5, high * 0.5, number)
        x += high * random.uniform(0.3, 0.7)


def winter_crown(season: str, colour: RGB) -> RGB:
    """A leaf's colour under frost in winter."""
    return mixed(colour, rgb("e4e8ec"), 0.35) if season == "winter" else colour
