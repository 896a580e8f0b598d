"""Random textures that repeat without a seam, and how pictures look them up.

They are made once per process, from a seed of their own. A scene differs from the next by where it looks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 512
"""Texels along a texture's side, and at most so many lookups along a picture's height: beyond it they are enlarged."""

Field = NDArray[np.floating]


@cache
def soft() -> Field:
    """Large and small lumps, as in clouds; about −1 to 1."""
    return _normal(_filtered(1, lambda fx, fy: 1 / (np.hypot(fx, fy) + 1.5) ** 1.75))


@cache
def grain() -> Field:
    """Mostly small lumps, as in leaves, grass and stone; about −1 to 1."""
    return _normal(_filtered(2, lambda fx, fy: 1 / (np.hypot(fx, fy) + 12) ** 0.9))


@cache
def relief() -> Field:
    """Crags lit from the left; about −1 to 1."""
    height = -np.abs(_filtered(3, lambda fx, fy: 1 / (np.hypot(fx, fy) + 2) ** 1.9).astype(np.float64))
    height += 0.5 * -np.abs(np.roll(height, (137, 71), (0, 1)))
    return _normal(np.roll(height, -1, 1) - np.roll(height, 1, 1) + 0.35 * (np.roll(height, -1, 0) - height))


@cache
def ripples() -> Field:
    """Short waves, longer from side to side than up and down; about −1 to 1."""
    return _normal(_filtered(4, lambda fx, fy: np.exp(-(((np.hypot(fx * 3.5, fy) - 44) / 26) ** 2))))


def _filtered(seed: int, gain: Callable[[Field, Field], Field]) -> Field:
    frequency = np.fft.fftfreq(SIDE, 1 / SIDE)
    white = np.fft.fft2(np.random.Generator(np.random.PCG64(seed)).standard_normal((SIDE, SIDE)))
    gains = gain(frequency[None, :], frequency[:, None])
    gains[0, 0] = 0
    return np.fft.ifft2(white * gains).real.astype(np.float32)


def _normal(values: Field) -> Field:
    return np.clip(values / (2.2 * values.std()), -1.3, 1.3).astype(np.float32)


def looked_up(texture: Field, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Field:
    """The texture at integer places, which may lie anywhere; rows and columns are broadcast against each other."""
    return texture.ravel().take((((rows & (SIDE - 1)) << 9) | (columns & (SIDE - 1))).astype(np.intp))


def resized(values: Field, height: int, width: int) -> Field:
    """The same field with other numbers of rows and columns."""
    if values.shape == (height, width):
        return values
    return np.array(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
