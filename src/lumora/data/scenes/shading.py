"""From numbers to the picture: light, texture, haze, mirroring water, rain, and the camera's own colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lumora.data.scenes import noise
from lumora.data.scenes.canvas import FINER, HEAVEN, PLANE, POND
from lumora.data.scenes.colour import times
from lumora.data.scenes.light import Light
from lumora.data.scenes.names import SUN
from lumora.data.scenes.noise import Field
from lumora.data.scenes.stage import Stage

Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Grid:
    """The points of the finer grid, and where they look textures up."""

    rows: int
    columns: int
    scale: float
    offset: int

    def coarse(self, rows: int | None = None) -> tuple[Field, Field, float]:
        """Heights and sides of lookups in texels: (r, 1), (1, c), and texels per point."""
        share = min(noise.SIDE / self.scale, 1.0)
        high = max(1, round((self.rows if rows is None else rows) * share))
        wide = max(1, round(self.columns * share))
        y = ((np.arange(high, dtype=np.float32) + 0.5) / (self.scale * share))[:, None]
        x = ((np.arange(wide, dtype=np.float32) + 0.5) / (self.scale * share))[None, :]
        return y, x, share

    def flat(self, texture: Field, turns: int = 0) -> Field:
        """A texture held in front of the whole picture."""
        y, x, _ = self.coarse()
        rows = (y * noise.SIDE).astype(np.int32) + (self.offset + 131 * turns)
        columns = (x * noise.SIDE).astype(np.int32) + (self.offset // 7 + 17 * turns)
        return noise.resized(noise.looked_up(texture, rows, columns), self.rows, self.columns)

    def level(self, texture: Field, horizon: float, first: int, across: float, along: float) -> Field:
        """A texture lying on the ground, from row `first` down."""
        rows = self.rows - first
        y, x, _ = self.coarse(rows)
        depth = 1 / np.maximum(y + (first / self.scale - horizon), 0.004)
        u = ((x - 0.5 * self.columns / self.scale) * depth * across).astype(np.int32) + self.offset
        v = (depth * along).astype(np.int32) + self.offset // 3
        return noise.resized(noise.looked_up(texture, v, u), rows, self.columns)


def heaven(grid: Grid, light: Light, horizon: float, rows: int) -> tuple[Field, Field, NDArray[np.bool_]]:
    """The first rows of the sky: its colours without clouds (3, r, c), the clouds' density, and where they count."""
    y, x = _axes(grid, rows)
    fall = np.clip(y / max(horizon, 0.05), 0, 1) ** 1.4
    colours = np.empty((3, rows, grid.columns), np.float32)
    near = np.zeros((rows, grid.columns), np.float32)
    if light.sun is not None:
        sx, sy = light.sun[0] * grid.columns / grid.scale, light.sun[1] * horizon
        squared = (x - sx) ** 2 + (y - sy) ** 2
        near = 0.016 / (0.016 + squared) * (0.35 if light.hour == "night" else 0.75)
    for channel in range(3):
        zenith, low = light.zenith[channel], light.horizon[channel]
        shine = min(1.0, light.direct[channel] * 1.5 + 0.12)
        row = zenith + (low - zenith) * fall
        np.multiply(near, shine - row, out=colours[channel])
        colours[channel] += row
    density = np.full((rows, grid.columns), -1.0, np.float32)
    if light.cover > 0:
        density = _clouds(grid, light, horizon, rows)
    return colours, density, density > 0


def _axes(grid: Grid, rows: int) -> tuple[Field, Field]:
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / grid.scale)[:, None]
    x = ((np.arange(grid.columns, dtype=np.float32) + 0.5) / grid.scale)[None, :]
    return y, x


def _clouds(grid: Grid, light: Light, horizon: float, rows: int) -> Field:
    y, x, _ = grid.coarse(rows)
    depth = 1 / (np.maximum(horizon - y, 0.0) * 1.3 + 0.22)
    u = ((x - 0.5 * grid.columns / grid.scale) * depth * 62).astype(np.float32)
    v = depth * 74
    texture = noise.soft()
    density = 0.82 * _smooth(texture, v, u, grid.offset)
    density += 0.3 * _smooth(texture, v * 3.1, u * 3.1, grid.offset // 5)
    density += (light.cover - 0.62) * 1.25
    return noise.resized(np.ascontiguousarray(density, dtype=np.float32), rows, grid.columns)


def _smooth(texture: Field, v: Field, u: Field, offset: int) -> Field:
    """Look up between the texels along the rows, where clouds are magnified most."""
    whole = np.floor(u)
    share = u - whole
    columns = whole.astype(np.int32) + offset
    down = np.floor(v)
    part = v - down
    rows = down.astype(np.int32) + offset // 3
    above = noise.looked_up(texture, rows, columns) * (1 - share) + noise.looked_up(texture, rows, columns + 1) * share
    below = noise.looked_up(texture, rows + 1, columns) * (1 - share)
    below += noise.looked_up(texture, rows + 1, columns + 1) * share
    return above * (1 - part) + below * part


def picture(stage: Stage, grid: Grid, sky: tuple[Field, Field], numbers: Ints) -> NDArray[np.uint8]:
    """Shade every point and make the picture of them, (H, W, 3)."""
    colours = _surfaces(stage, grid, numbers)
    _skies(stage, sky, numbers, colours)
    _waters(stage, grid, numbers, colours)
    small = _halved(colours)
    _weather(stage, grid, small)
    return _developed(stage, small)


def _surfaces(stage: Stage, grid: Grid, numbers: Ints) -> Field:
    """Everything that is neither sky nor water: its own colour in this light, textured and hazed, (3, r, c)."""
    light, paints = stage.light, stage.canvas.paints
    albedo = np.array([paint.colour for paint in paints], np.float32)
    lit = np.array([paint.lit for paint in paints], np.float32)[:, None]
    glow = np.array([paint.glow for paint in paints], np.float32)[:, None] * light.lamps
    distance = np.array([paint.distance for paint in paints], np.float32)
    material = np.array([paint.material for paint in paints], np.uint8)
    rough = np.array([paint.rough for paint in paints], np.float32)
    own = albedo * (np.array(light.ambient, np.float32) + lit * np.array(light.direct, np.float32))
    own += glow * (np.array((1.0, 0.82, 0.45), np.float32) - own)
    # Even in fog a shape can be made out: what is in the mask is in the picture.
    clear = (0.1 + 0.9 * np.exp(-distance / light.sight)).astype(np.float32)
    clear[material == PLANE] = 1
    own = own * clear[:, None] + np.array(light.haze, np.float32) * (1 - clear[:, None])
    rough = rough * clear

    texture = grid.flat(noise.grain())
    first = min(max(int(stage.horizon * grid.scale), 0), grid.rows - 1)
    below = numbers[first:]
    plane = (material == PLANE).take(below)
    level = grid.level(noise.grain(), stage.horizon, first, 70, 26) * 0.75
    level += grid.level(noise.soft(), stage.horizon, first, 14, 9) * 0.6
    np.copyto(texture[first:], level, where=plane)
    _crags(stage, grid, numbers, own, clear, texture, rough)
    texture *= rough.take(numbers)
    texture += 1
    depth = _depths(stage, grid, first)
    seen = np.exp(-depth / light.sight).astype(np.float32)
    veil = np.where(plane, 1 - seen, 0)
    shade = _shadows(stage, grid, first, plane)
    texture[first:] *= shade
    colours = np.empty((3, grid.rows, grid.columns), np.float32)
    for channel in range(3):
        values = colours[channel]
        np.take(np.ascontiguousarray(own[:, channel], np.float32), numbers, out=values, mode="clip")
        values *= texture
        values[first:] += veil * (light.haze[channel] - values[first:])
    return colours


def _crags(stage: Stage, grid: Grid, numbers: Ints, own: Field, clear: Field, texture: Field, rough: Field) -> None:
    """Give mountains their relief."""
    craggy = np.array([paint.craggy for paint in stage.canvas.paints], np.float32)
    if not craggy.any():
        return
    where = np.flatnonzero((craggy > 0).take(numbers))
    relief = grid.flat(noise.relief(), 1).ravel()[where]
    texture.ravel()[where] = texture.ravel()[where] * 0.25 - relief * stage.light.side * craggy[numbers.ravel()[where]]


def _depths(stage: Stage, grid: Grid, first: int) -> Field:
    y = ((np.arange(first, grid.rows, dtype=np.float32) + 0.5) / grid.scale)[:, None]
    return stage.camera / np.maximum(y - stage.horizon, 1e-3)


def _shadows(stage: Stage, grid: Grid, first: int, plane: NDArray[np.bool_]) -> Field:
    """What the shadows leave of the light on the ground, from row `first` down."""
    if not stage.shadows or stage.light.shadow < 0.02:
        return np.ones((1, 1), np.float32)
    half = grid.scale / 2
    image = Image.new("L", (grid.columns // 2, (grid.rows - first) // 2 + 1))
    draw = ImageDraw.Draw(image)
    for x, y, rx, ry in stage.shadows:
        top = (y - ry) * half - first / 2
        draw.ellipse(((x - rx) * half, top, (x + rx) * half, top + 2 * ry * half), fill=255)
    image = image.filter(ImageFilter.BoxBlur(max(1.0, grid.scale / 400))).resize(
        (grid.columns, grid.rows - first), Image.Resampling.BILINEAR
    )
    dark = np.asarray(image, np.float32) * (-stage.light.shadow / 255)
    return np.where(plane, 1 + dark, 1)


def _skies(stage: Stage, sky: tuple[Field, Field], numbers: Ints, colours: Field) -> None:
    """Put the sky, the sun and the clouds in."""
    plain, density = sky
    light, rows = stage.light, plain.shape[1]
    material = np.array([paint.material for paint in stage.canvas.paints], np.uint8)
    here = (material == HEAVEN).take(numbers[:rows])
    if light.cover > 0:
        step = max(1, rows // 40)
        thick = np.clip(density * 3.2, 0, 1)
        above = np.roll(density, step, 0) - density
        above[:step] = 0  # what lies above the picture is not known
        body = np.clip(0.74 - above * 1.1 - density * 0.32, 0, 1)
        bright = times(light.direct, 0.62)
        for channel in range(3):
            dark = 0.55 * light.ambient[channel] + 0.32 * light.horizon[channel]
            white = min(1.02, bright[channel] + 0.72 * light.ambient[channel] + 0.12)
            cloud = dark + (white - dark) * body
            plain[channel] += thick * (cloud - plain[channel])
    sun = np.array([paint.kind == SUN for paint in stage.canvas.paints]).take(numbers[:rows])
    for channel in range(3):
        disc = (1.0, 0.97, 0.88)[channel] if light.hour != "dusk" else (1.0, 0.78, 0.55)[channel]
        np.copyto(colours[channel, :rows], plain[channel], where=here)
        np.copyto(colours[channel, :rows], disc, where=sun)


def _waters(stage: Stage, grid: Grid, numbers: Ints, colours: Field) -> None:
    """Let the water mirror what stands behind it."""
    paints, light = stage.canvas.paints, stage.light
    pond = np.array([paint.material == POND for paint in paints])
    first = min(max(int(stage.horizon * grid.scale), 0), grid.rows - 1)
    where = np.flatnonzero(pond.take(numbers[first:]))
    if not len(where):
        return
    row, column = np.divmod(where, grid.columns)
    number = numbers[first:].ravel().take(where)
    waves = grid.level(noise.ripples(), stage.horizon, first, 42, 60).ravel().take(where)
    calm = np.array([paint.rough for paint in paints], np.float32).take(number)
    lit = np.array([paint.lit for paint in paints], np.float32)
    line = stage.water_line * grid.scale
    below = np.arange(first, grid.rows, dtype=np.float32) - line
    swing = ((below + first) / grid.rows * 0.12 + 0.02).astype(np.float32) * grid.scale
    source = np.clip((line - below).take(row) + waves * calm * swing.take(row), 0, max(line - 1, 0)).astype(np.intp)
    source *= grid.columns
    source += column
    near = np.exp(-_depths(stage, grid, first) / light.sight).astype(np.float32).ravel().take(row)
    share = (0.78 - 0.55 * below / (grid.rows - line + 1)).astype(np.float32).take(row) - 0.16 * waves
    share = np.clip(share, 0.1, 0.9) * np.clip(lit * 1.7, 0, 1).take(number)
    waves *= calm * 1.2
    waves += 1
    for channel in range(3):
        plain = np.array([paint.colour[channel] for paint in paints], np.float32)
        value = (plain * (light.ambient[channel] + lit * light.direct[channel])).astype(np.float32).take(number)
        value *= waves
        value += share * (colours[channel].ravel().take(source) - value)
        value = light.haze[channel] + near * (value - light.haze[channel])
        colours[channel, first:].ravel()[where] = value


def _halved(colours: Field) -> Field:
    """The mean of each pixel's points."""
    total = colours[:, 0::FINER, 0::FINER] + colours[:, 0::FINER, 1::FINER]
    total += colours[:, 1::FINER, 0::FINER]
    total += colours[:, 1::FINER, 1::FINER]
    total *= 1 / FINER**2
    return total


def _weather(stage: Stage, grid: Grid, small: Field) -> None:
    """Let rain or snow fall in front of everything; it is in the picture and not in the mask."""
    if stage.light.weather not in ("rain", "snowfall"):
        return
    random, (_, height, width) = stage.random, small.shape
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    count = int(random.uniform(120, 320) * width / height)
    lean = random.uniform(-0.3, 0.3)
    rain = stage.light.weather == "rain"
    for _ in range(count):
        x, y = random.random() * width * 1.2 - 0.1 * width, random.random() * height
        near = random.random()
        if rain:
            length = (0.02 + 0.06 * near) * height
            draw.line((x, y, x + lean * length, y + length), fill=int(30 + 50 * near), width=max(1, height // 300))
        else:
            r = (0.0012 + 0.0042 * near**2) * height
            draw.ellipse((x - r, y - r, x + r, y + r), fill=int(90 + 130 * near))
    fall = np.asarray(image, np.float32) / 255
    bright = max(stage.light.haze) * 0.5 + 0.5 * min(1.0, max(stage.light.ambient) * 1.7)
    small += fall * (min(bright, 1.0) - small)


def _developed(stage: Stage, small: Field) -> NDArray[np.uint8]:
    """The camera's exposure, white balance and saturation; they differ from picture to picture."""
    random = stage.random
    warm, tint = random.gauss(0, 0.05), random.gauss(0, 0.025)
    exposure = random.uniform(0.88, 1.14) * (1.25 if stage.light.hour == "night" else 1.0)
    saturation = random.uniform(0.6, 1.2) if random.random() < 0.9 else random.uniform(0.1, 0.4)
    gains = (exposure * (1 + warm), exposure * (1 + tint), exposure * (1 - warm))
    for channel in range(3):
        small[channel] *= gains[channel]
    grey = small[0] * 0.3
    grey += small[1] * 0.59
    grey += small[2] * 0.11
    small -= grey
    small *= saturation
    small += grey
    np.clip(small, 0, 1, out=small)
    small *= 255
    small += 0.5
    contrast = (np.arange(256, dtype=np.float64) / 255) ** random.uniform(0.72, 1.3)
    curve = np.clip(contrast * (1 - (fade := random.uniform(0, 0.12))) + fade * 0.6, 0, 1)
    return (curve * 255 + 0.5).astype(np.uint8).take(small.astype(np.uint8).transpose(1, 2, 0))
