"""Colours as three numbers from 0 to 1, and the colours things have in their season."""

from __future__ import annotations

from random import Random
from typing import Final

RGB = tuple[float, float, float]


def rgb(code: str) -> RGB:
    """The colour of six hexadecimal digits.

    >>> rgb("ff8000")
    (1.0, 0.50..., 0.0)
    """
    return int(code[:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:], 16) / 255


def mixed(a: RGB, b: RGB, share: float) -> RGB:
    """From `a` (0) to `b` (1)."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def times(a: RGB, factor: float) -> RGB:
    """Darker, or brighter."""
    return a[0] * factor, a[1] * factor, a[2] * factor


def grey(a: RGB) -> RGB:
    """Without its hue."""
    mean = sum(a) / 3
    return mean, mean, mean


def varied(random: Random, a: RGB, by: float = 0.06) -> RGB:
    """A neighbour of a colour."""
    light = random.uniform(-by, by)
    return (
        min(max(a[0] + light + random.uniform(-by, by) / 2, 0.0), 1.0),
        min(max(a[1] + light + random.uniform(-by, by) / 2, 0.0), 1.0),
        min(max(a[2] + light + random.uniform(-by, by) / 2, 0.0), 1.0),
    )


def picked(random: Random, codes: str) -> RGB:
    """One of several colours, varied."""
    return varied(random, rgb(random.choice(codes.split())))


def few(random: Random, codes: str, count: int) -> str:
    """Some of several colours."""
    every = codes.split()
    return " ".join(random.sample(every, min(count, len(every))))


SEASONS: Final = ("spring", "summer", "autumn", "winter")

# Colours overlap on purpose: autumn leaves and roofs, grey water and grey roads, snow and clouds, heath and dusk.
GROUND: Final = {
    "spring": "7fa84a 8fb35a 6d9a55 a9b866 b09a6a c8b27c",
    "summer": "6f9440 88974a c2ae62 d6bf7f b59058 8d7a4a 8f6f86 b4765a",
    "autumn": "a8904a 8c7a42 b5884e 9a6b3f 7d7d4c c4a062 8a5f52",
    "winter": "e9edf2 dfe5ee f2f1ee b9b7ad 8f8a78 c9cfd6",
}
LEAVES: Final = {
    "spring": "7fae4c 98bb5e 6a9a4a e8b8c4 f0dde0 b6c46a",
    "summer": "3f7034 4f7f3a 5c8a44 2f5e38 6f8a3e 7c7f3a",
    "autumn": "c8682a d89a35 b5452c a0522d 8f6a30 c9b03e 7a7f3c",
    "winter": "8c8078 7a6e66 a59a90 e4e8ec 6b5f5a",
}
NEEDLES: Final = "24482f 2d5540 1f3f38 3d5a3a 35584e"
WATER: Final = "2f6486 3f7f9a 5a7f86 6f8488 3f7a6a 64805a 7a745c 8a929a 4a5f8a"
ROAD: Final = "6f7074 85868a 5b5c62 a08b6a b59f7c 94785c a7a49c c9bfa8 8a6a58"
ROCK: Final = "8a8580 7a7468 9a9088 6b6e76 a5876a 8f6f5c b0aaa0"
MOUNTAIN: Final = "7a7f8c 8a8078 6f7a70 93806a 8c6a5a 9aa0a8 5f6f66 7f6f86 a58a6c"
ROOF: Final = "a5523c 8a4a3a b5693f 5f6670 7a6a5c 4f5a52 6d8a7a 9a8a70 3f4a5a c08a50"
WALL: Final = "f0e8d8 e0d0a8 d8b888 c87860 a89078 e8e8e8 9fb0b8 b8c4a0 d0a0a0 8a6a50"
PAINT: Final = "d8d4cc c04030 305a90 3f7a4a e0b040 f0f0f0 404650 7a3f5a 5fa0a8 a86a3a"
CLOTH: Final = "c03830 3050a0 e0c050 408048 f0f0f0 302f38 a06090 d07030 6a8ab0 7a6a50"
WOOD: Final = "8a6a48 a58460 6f5640 9a9088 b59a78 5f544c"
FUR: Final = "f0ece0 8a5a38 302c2c d8c8a8 6a5040 b59a78"
