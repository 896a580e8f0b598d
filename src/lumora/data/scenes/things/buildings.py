"""Houses, towers, fences, piers and bridges."""

from __future__ import annotations

from lumora.data.scenes import colour as colours
from lumora.data.scenes.canvas import POND, Paint
from lumora.data.scenes.colour import RGB, mixed, picked, rgb, times
from lumora.data.scenes.names import BRIDGE, FENCE, HOUSE, PIER, TOWER, WATER
from lumora.data.scenes.stage import Stage


def _receding(stage: Stage, y: float, share: float) -> float:
    """Where a line that leads away from the viewer has got to on its way to the horizon."""
    return y + (stage.horizon - y) * share


def house(stage: Stage, x: float, y: float, metres: float, floors: int = 1, wide: float = 1.3) -> None:
    """A house whose front stands at (x, y); `metres` is a floor's height, `wide` the front's width in floors."""
    random, canvas, light = stage.random, stage.canvas, stage.light
    unit, distance = metres * stage.metre(y), stage.distance(y)
    tall, half = unit * floors, unit * wide / 2 * (1 + 0.25 * (floors - 1))
    wall, roof = picked(random, stage.walls), picked(random, stage.roofs)
    if light.season == "winter" and random.random() < 0.6:
        roof = rgb("e8ecf1")
    facing = -1.0 if x > stage.width / 2 else 1.0  # the side that can be seen looks towards the middle
    front = stage.paint(HOUSE, wall, distance, 0.75 if light.side * facing < 0 else 0.6, 0.05)
    side = stage.paint(HOUSE, wall, distance, 0.9 if light.side * facing > 0 else 0.15, 0.05)
    tiles = stage.paint(HOUSE, roof, distance, 0.75, 0.14)
    shaded = stage.paint(HOUSE, roof, distance, 0.35, 0.14)
    left, right, eaves = x - half, x + half, y - tall
    stage.shadow(x, y, half * 2.6, tall)
    near, back = (right, 0.22) if facing > 0 else (left, 0.22)
    deep = near + facing * half * random.uniform(0.5, 0.9)
    foot, top = _receding(stage, y, back), _receding(stage, eaves, back)
    ridge = unit * random.uniform(0.55, 0.95)
    canvas.polygon((near, y, near, eaves, deep, top, deep, foot), side)
    canvas.box(left, eaves, right, y, front)
    over = unit * 0.1
    if random.random() < 0.5:  # the gable looks at the viewer
        peak = eaves - ridge * wide * 0.75
        rear = _receding(stage, peak, back)
        canvas.polygon((left, eaves, x, peak, right, eaves), front)
        edge = (near + facing * over, eaves + over, near, eaves + over, x, peak + over * 0.2, x, peak - over)
        canvas.polygon((*edge, x + deep - near, rear - over, deep + facing * over, top + over), tiles)
        far = left - over if facing > 0 else right + over
        inner = far + facing * over
        canvas.polygon((far, eaves + over, x, peak - over, x, peak + over, inner, eaves + over * 1.6), shaded)
    else:
        peak = eaves - ridge
        middle = (near + deep) / 2
        crest = _receding(stage, peak, back / 2)
        canvas.polygon((near, eaves, middle, crest, deep, top), side)
        far = left - over if facing > 0 else right + over
        start = x + (left - x) * 0.8 if facing > 0 else x + (right - x) * 0.8
        slope = (far, eaves + over, start, peak, middle, crest - over * 0.5, near + facing * over * 0.6, eaves + over)
        canvas.polygon(slope, tiles)
        verge = (middle, crest - over * 0.5, deep + facing * over, top + over, deep, top + over * 1.6)
        canvas.polygon((*verge, middle, crest + over), shaded)
    if random.random() < 0.6:
        cx = x + half * random.uniform(-0.4, 0.4)
        canvas.box(cx - unit * 0.09, peak - unit * 0.12, cx + unit * 0.09, peak + unit * 0.35, side)
    _openings(stage, left, right, y, unit, floors, distance)


def _openings(stage: Stage, left: float, right: float, y: float, unit: float, floors: int, distance: float) -> None:
    """Windows and a door, where they would be large enough to be seen."""
    stage = stage.apart()
    random, canvas = stage.random, stage.canvas
    if unit * canvas.scale < 9:
        return
    dark = Paint(HOUSE, rgb("3a4452"), distance, 0.5, 0.02)
    lit = Paint(HOUSE, rgb("5a564c"), distance, 0.5, 0.02, glow=0.95)
    panes = canvas.new(dark), canvas.new(lit)
    frame = stage.paint(HOUSE, rgb("f0ece4") if random.random() < 0.6 else rgb("5a4a40"), distance, 0.7, 0.02)
    count = max(2, round((right - left) / unit * 1.6))
    door = random.randrange(count)
    step = (right - left) / count
    for floor in range(floors):
        for i in range(count):
            middle = left + step * (i + 0.5)
            half = min(unit * 0.15, step * 0.32)
            if floor == 0 and i == door:
                panel = stage.paint(HOUSE, picked(random, stage.paints), distance, 0.5, 0.05)
                canvas.box(middle - half, y - unit * 0.68, middle + half, y, panel)
                continue
            low = y - unit * (floor + 0.32)
            high = low - unit * 0.4
            pane = panes[random.random() < 0.55]
            edge = unit * 0.04
            canvas.box(middle - half - edge, high - edge, middle + half + edge, low + edge, frame)
            canvas.box(middle - half, high, middle + half, low, pane)
            if unit * canvas.scale > 40:
                canvas.line((middle, high, middle, low), unit * 0.025, frame)


def lighthouse(stage: Stage, x: float, y: float, metres: float) -> None:
    """A striped tower with a lamp."""
    random, canvas = stage.random, stage.canvas
    tall, distance = metres * stage.metre(y), stage.distance(y)
    half = tall * 0.11
    light, dark = rgb("f0ece4"), picked(random, "b83830 303c58 3a3a40 c86a3a f0ece4")
    stage.shadow(x, y, half * 3, tall)
    bands = 6
    for i in range(bands):
        low, high = i / bands, (i + 1) / bands
        a, b = half * (1 - 0.4 * low), half * (1 - 0.4 * high)
        bottom, top = y - tall * 0.8 * low, y - tall * 0.8 * high
        shade = (light, dark)[i % 2]
        canvas.polygon((x - a, bottom, x - b, top, x + b, top, x + a, bottom), stage.paint(TOWER, shade, distance, 0.4))
        s = stage.light.side
        strip = (x + s * a * 0.2, bottom, x + s * b * 0.2, top, x + s * b, top, x + s * a, bottom)
        canvas.polygon(strip, stage.paint(TOWER, shade, distance, 0.9))
    deck = stage.paint(TOWER, rgb("4a4a50"), distance, 0.5)
    lamp = canvas.new(Paint(TOWER, rgb("e8e0b0"), distance, 0.9, 0.02, glow=1.0))
    canvas.box(x - half * 0.9, y - tall * 0.83, x + half * 0.9, y - tall * 0.79, deck)
    canvas.box(x - half * 0.5, y - tall * 0.93, x + half * 0.5, y - tall * 0.83, lamp)
    canvas.polygon((x - half * 0.65, y - tall * 0.93, x, y - tall, x + half * 0.65, y - tall * 0.93), deck)


def church(stage: Stage, x: float, y: float, metres: float) -> None:
    """A tower with a pointed roof and a nave beside it; the nave is a house."""
    random, canvas = stage.random, stage.canvas
    tall, distance = metres * stage.metre(y), stage.distance(y)
    house(stage, x + tall * 0.36, y, metres * 0.3, 1, 1.7)
    wall, roof = picked(random, stage.walls), picked(random, stage.roofs)
    half, eaves, s = tall * 0.11, y - tall * 0.6, stage.light.side
    canvas.box(x - half, eaves, x + half, y, stage.paint(TOWER, wall, distance, 0.8, 0.06))
    edge = x - s * half * 0.35
    shade = stage.paint(TOWER, wall, distance, 0.25, 0.06)
    canvas.box(min(edge, x - s * half), eaves, max(edge, x - s * half), y, shade)
    spire = half * 1.15
    canvas.polygon((x - spire, eaves, x, y - tall, x + spire, eaves), stage.paint(TOWER, roof, distance, 0.7))
    shade = stage.paint(TOWER, roof, distance, 0.25)
    canvas.polygon((x - s * spire, eaves, x, y - tall, x - s * spire * 0.3, eaves), shade)
    dark = canvas.new(Paint(TOWER, rgb("3a3c46"), distance, 0.4, 0.02, glow=0.7))
    canvas.ellipse(x, y - tall * 0.5, half * 0.4, half * 0.4, dark)
    canvas.box(x - half * 0.2, y - tall * 0.36, x + half * 0.2, y - tall * 0.24, dark)


def windmill(stage: Stage, x: float, y: float, metres: float) -> None:
    """A mill with four sails."""
    import math

    random, canvas = stage.random, stage.canvas
    tall, distance = metres * stage.metre(y), stage.distance(y)
    body = picked(random, stage.walls)
    a, b, top = tall * 0.17, tall * 0.1, y - tall * 0.6
    stage.shadow(x, y, a * 3, tall)
    canvas.polygon((x - a, y, x - b, top, x + b, top, x + a, y), stage.paint(TOWER, body, distance, 0.35))
    s = stage.light.side
    bright = stage.paint(TOWER, body, distance, 0.85)
    canvas.polygon((x + s * a * 0.1, y, x + s * b * 0.1, top, x + s * b, top, x + s * a, y), bright)
    cap = stage.paint(TOWER, picked(random, stage.roofs), distance, 0.5)
    canvas.polygon(
        (x - b * 1.2, top, x - b * 0.6, top - tall * 0.12, x + b * 0.6, top - tall * 0.12, x + b * 1.2, top), cap
    )
    sail = stage.paint(TOWER, rgb("e8e0d0") if random.random() < 0.6 else rgb("6a5648"), distance, 0.7)
    turn = random.uniform(0, 1.57)
    hub = y - tall * 0.66
    for i in range(4):
        angle = turn + 1.5708 * i
        dx, dy = math.cos(angle) * tall * 0.4, math.sin(angle) * tall * 0.4
        px, py = -dy * 0.16, dx * 0.16
        canvas.line((x, hub, x + dx, hub + dy), tall * 0.02, sail)
        blade = (x + dx * 0.25, hub + dy * 0.25, x + dx, hub + dy, x + dx + px, hub + dy + py)
        canvas.polygon((*blade, x + dx * 0.25 + px, hub + dy * 0.25 + py), sail)


def fence(stage: Stage, x0: float, y0: float, x1: float, y1: float) -> None:
    """Posts and two rails from one place on the ground to another."""
    random, distance = stage.random, stage.distance((y0 + y1) / 2)
    number = stage.paint(FENCE, picked(random, colours.WOOD + " f0f0f0"), distance, 0.65, 0.1)
    tall0, tall1 = 1.15 * stage.metre(y0), 1.15 * stage.metre(y1)
    posts = 14
    for i in range(posts + 1):
        share = i / posts
        x, y, tall = x0 + (x1 - x0) * share, y0 + (y1 - y0) * share, tall0 + (tall1 - tall0) * share
        stage.canvas.line((x, y, x, y - tall), tall * 0.14, number)
    for up in (0.45, 0.85):
        stage.canvas.line((x0, y0 - tall0 * up, x1, y1 - tall1 * up), (tall0 + tall1) * 0.055, number)


def pier(stage: Stage, x: float, near: float, far: float, metres: float, lean: float = 0.0) -> None:
    """A jetty on posts that leads out over the water, from `near` to `far` (heights of the picture)."""
    random, canvas = stage.random, stage.canvas
    wood: RGB = picked(random, colours.WOOD)
    a, b = metres * stage.metre(near) / 2, metres * stage.metre(far) / 2
    fx = x + lean
    distance = stage.distance(near)
    post = stage.paint(PIER, times(wood, 0.55), distance, 0.2)
    drop = 0.7
    steps = 6
    for i in range(steps + 1):
        y = far + (near - far) * (i / steps) ** 1.6
        share = (y - far) / (near - far) if near != far else 0.0
        mx, half = fx + (x - fx) * share, b + (a - b) * share
        for px in (mx - half * 0.9, mx + half * 0.9):
            canvas.line((px, y - 0.3 * stage.metre(y), px, y + drop * stage.metre(y)), half * 0.16, post)
    under = 0.22
    na, fb = near + under * stage.metre(near), far + under * stage.metre(far)
    canvas.polygon((x - a, na, fx - b, fb, fx + b, fb, x + a, na), post)
    planks = [stage.paint(PIER, times(wood, random.uniform(0.85, 1.1)), distance, 0.7, 0.2) for _ in range(3)]
    count = 14
    for i in range(count):
        lo, hi = (i / count) ** 1.6, ((i + 1) / count) ** 1.6
        y0, y1 = far + (near - far) * lo, far + (near - far) * hi
        c0, c1, h0, h1 = fx + (x - fx) * lo, fx + (x - fx) * hi, b + (a - b) * lo, b + (a - b) * hi
        canvas.polygon((c0 - h0, y0, c0 + h0, y0, c1 + h1, y1, c1 - h1, y1), planks[i % 3])


def bridge(stage: Stage, left: float, right: float, y: float, metres: float) -> None:
    """A bridge with arches from bank to bank; one sees the water through them."""
    random, canvas = stage.random, stage.canvas
    unit, distance = stage.metre(y), stage.distance(y)
    stone = picked(random, colours.ROCK + " " + colours.WOOD)
    body = stage.paint(BRIDGE, stone, distance, 0.5, 0.22)
    rim = stage.paint(BRIDGE, times(stone, 1.15), distance, 0.85, 0.12)
    tall = metres * unit
    bulge = tall * random.uniform(0.1, 0.5)
    span = right - left
    arches = max(1, round(span / (tall * 2.4)))
    crown = [(left + span * i / 12, y - tall - bulge * (1 - (2 * i / 12 - 1) ** 2)) for i in range(13)]
    flat = [v for point in crown for v in point]
    step = span / arches
    # The body is drawn pier by pier, so that what is behind an arch stays as it was.
    for i in range(arches):
        x0, x1 = left + step * i, left + step * (i + 1)
        _arch(stage, x0, x1, y, tall, bulge, (left, span), body)
    canvas.line(flat, tall * 0.22, rim)


def _arch(
    stage: Stage, x0: float, x1: float, y: float, tall: float, bulge: float, whole: tuple[float, float], number: int
) -> None:
    import math

    left, span = whole

    def deck(x: float) -> float:
        return y - tall - bulge * (1 - (2 * (x - left) / span - 1) ** 2)

    thick = (x1 - x0) * 0.1
    inner0, inner1 = x0 + thick, x1 - thick
    middle, reach = (inner0 + inner1) / 2, (inner1 - inner0) / 2
    points = [x0, y, x0, deck(x0)]
    points += [v for i in range(1, 6) for v in (x0 + (x1 - x0) * i / 6, deck(x0 + (x1 - x0) * i / 6))]
    points += [x1, deck(x1), x1, y, inner1, y]
    for i in range(1, 12):
        angle = math.pi * i / 12
        x = middle + reach * math.cos(angle)
        rise = min(tall * 0.8, (y - deck(middle)) * 0.78)
        points += [x, y - rise * math.sin(angle)]
    points += [inner0, y]
    stage.canvas.polygon(points, number)


def mirrored(stage: Stage, x: float, y: float, half: float, long: float, paint: RGB) -> None:
    """The reflection of something that floats: bands of its colour that grow narrower towards the viewer."""
    random = stage.random
    count = 9
    for i in range(count):
        share = i / count
        colour = mixed(times(stage.water, 0.7), times(paint, 0.65), 0.75 * (1 - share))
        number = stage.canvas.new(Paint(WATER, colour, stage.distance(y), 0.3, 0.06, POND))
        reach, shift = half * (1.03 - 0.5 * share) * random.uniform(0.8, 1.05), half * random.uniform(-0.1, 0.1) * share
        top, thick = y + long * share, long / count * (1.15 - 0.75 * share)
        middle = top + thick / 2
        left, right = x + shift - reach, x + shift + reach
        tip = half * 0.12
        ends = (right - tip, top, right, middle, right - tip, top + thick, left + tip, top + thick, left, middle)
        stage.canvas.polygon((left + tip, top, *ends), number)
