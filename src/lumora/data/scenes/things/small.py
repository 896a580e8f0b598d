"""Boats, cars, people, animals and rocks."""

from __future__ import annotations

from lumora.data.scenes import colour as colours
from lumora.data.scenes.canvas import Paint
from lumora.data.scenes.colour import RGB, picked, rgb, times
from lumora.data.scenes.names import ANIMAL, BOAT, CAR, GROUND, PERSON, ROCK
from lumora.data.scenes.stage import Stage
from lumora.data.scenes.things.buildings import mirrored


def boat(stage: Stage, x: float, y: float, metres: float, kind: str = "") -> None:
    """A boat of some length: `sail`, `motor` or `row`."""
    random, canvas = stage.random, stage.canvas
    long, distance = metres * stage.metre(y), stage.distance(y)
    kind = kind or random.choice(("sail", "sail", "motor", "moored", "row"))
    turn = random.choice((-1.0, 1.0))
    high = long * (0.14 if kind != "row" else 0.17)
    half = long / 2
    paint = picked(random, stage.paints)
    mirrored(stage, x, y, half * 0.85, high * (2.2 if kind == "row" else 3.2), paint)
    hull = stage.paint(BOAT, paint, distance, 0.5, 0.05)
    trim = stage.paint(BOAT, picked(random, stage.paints), distance, 0.8, 0.03)
    wood = stage.paint(BOAT, picked(random, colours.WOOD), distance, 0.6, 0.05)
    deck = y - high
    if kind in ("sail", "moored"):
        mast, top = x + turn * half * 0.05, y - long * random.uniform(1.1, 1.35)
        canvas.line((mast, deck, mast, top), long * 0.022, wood)
        if kind == "sail":
            cloth = picked(random, "f4f0e8 f4f0e8 e8e0cc c86a4a d8b050 5a7a9a a03838")
            bright = stage.paint(BOAT, cloth, distance, 0.9, 0.03)
            dim = stage.paint(BOAT, cloth, distance, 0.55, 0.03)
            boom = deck - high * 0.4
            canvas.polygon((mast - turn * 0.02 * long, top, mast - turn * half * 0.85, boom, mast, boom), bright)
            canvas.polygon((mast + turn * 0.02 * long, top, mast + turn * half * 0.85, deck, mast, boom), dim)
        else:
            canvas.line((mast, deck - high, mast - turn * half * 0.7, deck - high), long * 0.03, trim)
            canvas.line((mast, top, x + turn * half, deck), long * 0.008, wood)
    elif kind == "motor":
        cabin = stage.paint(BOAT, rgb("f0ece4"), distance, 0.8, 0.03)
        glass = canvas.new(Paint(BOAT, rgb("3a4858"), distance, 0.5, 0.02, glow=0.8))
        a, b = x - turn * half * 0.35, x + turn * half * 0.25
        canvas.polygon((a, deck, a, deck - high * 1.3, b - turn * high * 0.3, deck - high * 1.3, b, deck), cabin)
        canvas.line(
            (a + turn * high * 0.3, deck - high * 0.85, b - turn * high * 0.4, deck - high * 0.85), high * 0.4, glass
        )
        canvas.line((a, deck - high, a, deck - high * 2.6), long * 0.02, wood)
    tip = x + turn * half * 1.08
    canvas.polygon(
        (x - turn * half, deck, tip, deck - high * 0.25, x + turn * half * 0.8, y, x - turn * half * 0.85, y), hull
    )
    canvas.line((x - turn * half, deck, tip, deck - high * 0.25), high * 0.22, trim)


def ship(stage: Stage, x: float, y: float, metres: float) -> None:
    """A larger ship with a superstructure and a funnel."""
    random, canvas = stage.random, stage.canvas
    long, distance = metres * stage.metre(y), stage.distance(y)
    turn, half, high = random.choice((-1.0, 1.0)), long / 2, long * 0.1
    paint = picked(random, stage.paints)
    mirrored(stage, x, y, half * 0.9, high * 2, paint)
    hull = stage.paint(BOAT, paint, distance, 0.4, 0.08)
    white = stage.paint(BOAT, rgb("e8e6e0"), distance, 0.8, 0.03)
    funnel = stage.paint(BOAT, picked(random, stage.paints), distance, 0.7, 0.03)
    glass = canvas.new(Paint(BOAT, rgb("3a4858"), distance, 0.5, 0.02, glow=0.9))
    a, b = x - turn * half * 0.8, x - turn * half * random.uniform(0.0, 0.4)
    low = y - high
    canvas.box(min(a, b), low - high * 1.2, max(a, b), low, white)
    canvas.box(min(a, (a + b) / 2), low - high * 1.9, max(a, (a + b) / 2), low - high * 1.2, white)
    canvas.line((a + turn * high * 0.3, low - high * 0.7, b - turn * high * 0.3, low - high * 0.7), high * 0.25, glass)
    fx = a + (b - a) * 0.3
    canvas.box(fx - high * 0.3, low - high * 2.6, fx + high * 0.3, low - high * 1.9, funnel)
    canvas.polygon(
        (
            x - turn * half,
            low,
            x + turn * half * 1.05,
            low - high * 0.3,
            x + turn * half * 0.85,
            y,
            x - turn * half * 0.95,
            y,
        ),
        hull,
    )


def car(stage: Stage, x: float, y: float, front: bool = True) -> None:
    """A car, seen from its front or its side."""
    random, canvas = stage.random, stage.canvas
    unit, distance = stage.metre(y) * random.uniform(1.05, 1.25), stage.distance(y)
    paint = picked(random, stage.paints)
    body = stage.paint(CAR, paint, distance, 0.75, 0.04)
    lower = stage.paint(CAR, times(paint, 0.8), distance, 0.4, 0.04)
    glass = stage.paint(CAR, rgb("46525e"), distance, 0.6, 0.02)
    wheel = stage.paint(CAR, rgb("242428"), distance, 0.3, 0.05)
    half = unit * (0.9 if front else 2.1)
    stage.shadow(x, y, half * 2.1, unit * 0.4)
    if front:
        lamp = canvas.new(Paint(CAR, rgb("f0e8c8"), distance, 0.9, 0.02, glow=1.0))
        for s in (-1, 1):
            canvas.box(x + s * half * 0.78 - unit * 0.14, y - unit * 0.4, x + s * half * 0.78 + unit * 0.14, y, wheel)
        roof, waist = y - unit * 1.5, y - unit * 0.95
        canvas.polygon(
            (x - half * 0.9, waist, x - half * 0.68, roof, x + half * 0.68, roof, x + half * 0.9, waist), body
        )
        screen = (x - half * 0.76, waist, x - half * 0.58, roof + unit * 0.12, x + half * 0.58, roof + unit * 0.12)
        canvas.polygon((*screen, x + half * 0.76, waist), glass)
        canvas.box(x - half, waist, x + half, y - unit * 0.55, body)
        canvas.box(x - half, y - unit * 0.55, x + half, y - unit * 0.2, lower)
        for s in (-1, 1):
            canvas.ellipse(x + s * half * 0.72, y - unit * 0.66, unit * 0.15, unit * 0.1, lamp)
        return
    roof, waist = y - unit * 1.45, y - unit * 0.9
    s = random.choice((-1, 1))
    cabin = (
        x - s * half * 0.75,
        waist,
        x - s * half * 0.5,
        roof,
        x + s * half * 0.15,
        roof,
        x + s * half * 0.45,
        waist,
    )
    canvas.polygon(cabin, body)
    pane = (x - s * half * 0.6, waist, x - s * half * 0.43, roof + unit * 0.12, x + s * half * 0.1, roof + unit * 0.12)
    canvas.polygon((*pane, x + s * half * 0.32, waist), glass)
    canvas.polygon(
        (
            x - s * half,
            waist,
            x + s * half * 0.5,
            waist,
            x + s * half,
            waist + unit * 0.12,
            x + s * half,
            y - unit * 0.25,
            x - s * half,
            y - unit * 0.25,
        ),
        body,
    )
    canvas.box(x - half * 0.98, y - unit * 0.5, x + half * 0.98, y - unit * 0.25, lower)
    for wx in (-0.6, 0.6):
        canvas.ellipse(x + wx * half, y - unit * 0.3, unit * 0.32, unit * 0.32, wheel)


def person(stage: Stage, x: float, y: float) -> None:
    """Someone, standing or walking."""
    random, canvas = stage.random, stage.canvas
    tall, distance = stage.metre(y) * random.uniform(1.5, 1.95), stage.distance(y)
    top, trousers = picked(random, colours.CLOTH), picked(random, colours.CLOTH)
    skin: RGB = picked(random, "f0c8a8 d8a880 a87850 7a5238 e8b898")
    coat = stage.paint(PERSON, top, distance, 0.7, 0.06)
    shade = stage.paint(PERSON, times(top, 0.85), distance, 0.25, 0.06)
    legs = stage.paint(PERSON, trousers, distance, 0.45, 0.06)
    face = stage.paint(PERSON, skin, distance, 0.75, 0.02)
    hair = stage.paint(PERSON, picked(random, "2a2420 5a4030 a08050 8a8a8a c03830"), distance, 0.5, 0.05)
    stage.shadow(x, y, tall * 0.3, tall)
    step = tall * random.uniform(0.03, 0.1)
    thick = tall * 0.085
    hip, neck = y - tall * 0.48, y - tall * 0.83
    canvas.line((x - step * 0.2, hip, x - step, y), thick, legs)
    canvas.line((x + step * 0.2, hip, x + step, y), thick, legs)
    w = tall * 0.11
    if random.random() < 0.35:  # a skirt or a long coat
        canvas.polygon(
            (
                x - w,
                hip - tall * 0.1,
                x + w,
                hip - tall * 0.1,
                x + w * 1.5,
                y - tall * 0.25,
                x - w * 1.5,
                y - tall * 0.25,
            ),
            legs,
        )
    swing = tall * random.uniform(0.02, 0.1)
    canvas.line((x - w, neck + tall * 0.03, x - w - swing, hip - tall * 0.02), thick * 0.75, shade)
    canvas.polygon((x - w * 1.15, neck, x + w * 1.15, neck, x + w * 0.9, hip, x - w * 0.9, hip), coat)
    canvas.line((x + w, neck + tall * 0.03, x + w + swing, hip - tall * 0.02), thick * 0.75, coat)
    canvas.ellipse(x, y - tall * 0.915, tall * 0.062, tall * 0.08, face)
    canvas.ellipse(x, y - tall * 0.955, tall * 0.066, tall * 0.048, hair)


_METRES = {"cow": 1.5, "sheep": 1.0, "horse": 1.8, "deer": 1.5}
_BUILD = {"cow": (0.62, 0.25), "sheep": (0.58, 0.31), "horse": (0.5, 0.18), "deer": (0.46, 0.17)}
"""Half the body's length and half its height, as shares of the animal's height."""


def animal(stage: Stage, x: float, y: float, kind: str = "") -> None:
    """A cow, a sheep, a horse or a deer, from its side."""
    random, canvas = stage.random, stage.canvas
    kind = kind or random.choice(("cow", "sheep", "horse"))
    tall, distance = _METRES[kind] * random.uniform(0.9, 1.1) * stage.metre(y), stage.distance(y)
    fur: RGB = picked(random, {"sheep": "e4dfd0 d8d0c0 f0ece4", "deer": "a06f42 8a6040"}.get(kind, colours.FUR))
    body = stage.paint(ANIMAL, fur, distance, 0.75, 0.12)
    belly = stage.paint(ANIMAL, times(fur, 0.8), distance, 0.25, 0.12)
    dark = stage.paint(ANIMAL, rgb("4a3f38") if kind == "sheep" else times(fur, 0.8), distance, 0.5, 0.1)
    s = random.choice((-1.0, 1.0))
    long, thick = tall * _BUILD[kind][0], tall * _BUILD[kind][1]
    middle = y - tall + thick  # of the body's height
    stage.shadow(x, y, long * 2, tall * 0.5)
    for lx, number in ((-0.66, dark), (0.5, dark), (-0.78, belly), (0.68, belly)):
        hip, hoof, knee = x + s * lx * long, x + s * (lx - 0.04) * long, (middle + y) / 2 + thick * 0.3
        a, b = thick * 0.42, tall * 0.032
        outline = (
            hip - a,
            middle,
            hip + a,
            middle,
            hoof + b * 1.3,
            knee,
            hoof + b,
            y,
            hoof - b,
            y,
            hoof - b * 1.3,
            knee,
        )
        canvas.polygon(outline, number)
    canvas.ellipse(x, middle + thick * 0.12, long * 0.96, thick, belly)
    canvas.ellipse(x - s * long * 0.55, middle - thick * 0.02, long * 0.44, thick * 0.96, body)
    canvas.ellipse(x + s * long * 0.5, middle - thick * 0.02, long * 0.46, thick, body)
    canvas.ellipse(x, middle - thick * 0.1, long * 0.8, thick * 0.84, body)
    if kind == "cow" and random.random() < 0.6:
        spot = stage.paint(ANIMAL, rgb("4a3a30") if sum(fur) > 1.5 else rgb("e8e0d0"), distance, 0.6, 0.1)
        for at, size in ((-0.62, 0.26), (-0.1, 0.34), (0.55, 0.22)):
            sx, sy = x + s * long * (at + random.uniform(-0.08, 0.08)), middle - thick * random.uniform(0.0, 0.35)
            a, b = long * size, thick * 0.42
            canvas.polygon(
                (sx - a, sy, sx - a * 0.3, sy - b, sx + a * 0.8, sy - b * 0.7, sx + a, sy + b * 0.6, sx, sy + b), spot
            )
    if kind in ("cow", "horse"):
        canvas.line(
            (x - s * long * 0.93, middle - thick * 0.4, x - s * long * 1.06, y - tall * 0.35), tall * 0.045, dark
        )
    _head(stage, (x + s * long * 0.72, middle - thick * 0.25), tall, s, kind, (dark if kind == "sheep" else body, dark))


def _head(stage: Stage, chest: tuple[float, float], tall: float, s: float, kind: str, paints: tuple[int, int]) -> None:
    """Neck, head, ears, and a deer's antlers; raised or grazing."""
    random, canvas = stage.random, stage.canvas
    (x, y), (skin, dark) = chest, paints
    raised = {"cow": 0.12, "sheep": 0.12, "horse": 0.42, "deer": 0.42}[kind]
    hx, hy = x + s * tall * (0.34 if raised < 0.2 else 0.26), y - tall * raised
    if random.random() < 0.35:
        hx, hy = x + s * tall * 0.4, y + tall * 0.45
    slim, size = tall * (0.09 if kind == "deer" else 0.13), tall * 0.072
    neck = (x - s * slim * 1.2, y - slim, hx - s * slim * 0.5, hy - slim * 0.5, hx + s * slim * 0.2, hy + slim * 0.6)
    canvas.polygon((*neck, x + s * slim, y + slim * 1.4), skin)
    canvas.ellipse(hx, hy, size * 1.1, size, skin)
    mx, my = hx + s * tall * 0.15, hy + tall * 0.09
    canvas.polygon(
        (
            hx - s * size * 0.3,
            hy - size,
            hx + s * size,
            hy - size * 0.7,
            mx,
            my - size * 0.5,
            mx - s * size * 0.3,
            my + size * 0.5,
            hx,
            hy + size,
        ),
        skin,
    )
    canvas.line((hx - s * size * 0.4, hy - size * 0.6, hx - s * size * 1.5, hy - size * 1.5), tall * 0.04, dark)
    if kind == "deer":
        for fork in (-0.02, 0.12):
            canvas.line((hx, hy - size * 0.8, hx - s * tall * fork, hy - size - tall * 0.26), tall * 0.025, dark)


def bale(stage: Stage, x: float, y: float) -> None:
    """A round bale of hay; it belongs to the field that it lies on."""
    tall, distance = stage.metre(y) * stage.random.uniform(1.2, 1.5), stage.distance(y)
    straw = picked(stage.random, "c8a860 b89850 d8c088 a89068")
    half, s = tall / 2, stage.light.side
    stage.shadow(x, y, tall * 1.5, tall)
    stage.canvas.ellipse(
        x - s * half * 0.9, y - half, half * 0.8, half, stage.paint(GROUND, times(straw, 0.85), distance, 0.3, 0.3)
    )
    stage.canvas.box(
        min(x, x - s * half * 0.9),
        y - tall,
        max(x, x - s * half * 0.9),
        y,
        stage.paint(GROUND, straw, distance, 0.45, 0.4),
    )
    stage.canvas.ellipse(x, y - half, half * 0.8, half, stage.paint(GROUND, straw, distance, 0.9, 0.3))
    stage.canvas.ellipse(
        x, y - half, half * 0.45, half * 0.55, stage.paint(GROUND, times(straw, 0.88), distance, 0.75, 0.3)
    )


def bird(stage: Stage, x: float, y: float, span: float) -> None:
    """A bird on the wing, `span` of the picture's height across."""
    random = stage.random
    number = stage.canvas.new(Paint(ANIMAL, picked(random, "303038 f0f0f0 6a6a70"), 0.0, 0.6, 0.03))
    lift, s = span * random.uniform(0.15, 0.35), span / 2
    flat = (x - s, y - lift, x - s * 0.4, y - lift * 1.15, x, y, x + s * 0.4, y - lift * 1.15, x + s, y - lift)
    stage.canvas.polygon((*flat, x + s * 0.4, y - lift * 0.75, x, y + span * 0.1, x - s * 0.4, y - lift * 0.75), number)


def rock(stage: Stage, x: float, y: float, metres: float) -> None:
    """A boulder with a lit and a dark side."""
    random, canvas = stage.random, stage.canvas
    tall, distance = metres * stage.metre(y), stage.distance(y)
    stone = picked(random, colours.ROCK)
    half, s = tall * random.uniform(0.6, 1.1), stage.light.side
    u = random.uniform
    top = (x + u(-0.2, 0.2) * half, y - tall)
    left, right = (x - half * u(0.55, 0.8), y - tall * u(0.5, 0.8)), (x + half * u(0.55, 0.8), y - tall * u(0.5, 0.8))
    outline = (
        x - half,
        y - tall * 0.05,
        *left,
        *top,
        *right,
        x + half,
        y - tall * 0.05,
        x + half * 0.6,
        y + tall * 0.08,
    )
    stage.shadow(x, y, half * 2.2, tall)
    canvas.polygon(
        (*outline, x - half * 0.6, y + tall * 0.08), stage.paint(ROCK, times(stone, 0.9), distance, 0.35, 0.3)
    )
    middle = (x + u(-0.2, 0.3) * half * s, y - tall * u(0.35, 0.55))
    bright = left if s < 0 else right
    canvas.polygon((*top, *bright, *middle), stage.paint(ROCK, stone, distance, 0.95, 0.25))
    canvas.polygon((*bright, x + s * half, y - tall * 0.05, *middle), stage.paint(ROCK, stone, distance, 0.7, 0.3))
    if stage.light.season == "winter" and random.random() < 0.6:
        cap = stage.paint(ROCK, rgb("eef2f6"), distance, 0.7, 0.05)
        canvas.polygon((*left, *top, *right, x, y - tall * 0.7), cap)
