"""The hour, the weather and the season of a scene, and what they do to its colours."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from lumora.data.scenes.colour import RGB, SEASONS, grey, mixed, rgb, times, varied

Hour = Literal["day", "golden", "dusk", "night"]
Weather = Literal["clear", "cloudy", "overcast", "fog", "rain", "snowfall"]

# zenith, horizon, direct light, light from everywhere
_HOURS: Final[dict[Hour, tuple[tuple[str, ...], tuple[str, ...], str, str]]] = {
    "day": (("3f7fc8", "5a9ad8", "4a8aa8", "6f9ac0"), ("c8dff0", "dfe8ea", "b8d4e0"), "b8ac98", "858d99"),
    "golden": (("5a86b8", "8a90b0", "7a9aa8"), ("f6c88a", "f0b070", "f2d2a0"), "d49a58", "7c6f72"),
    "dusk": (("3a4478", "54487e", "2f4a70"), ("f08a6a", "d88aa0", "e8a070", "b08ab8"), "a8685a", "625a74"),
    "night": (("0b1230", "121a3c", "0f1f33"), ("2a3a60", "3a3a62", "24455c"), "3a4866", "2c3554"),
}


@dataclass(frozen=True)
class Light:
    """Where the light comes from, its colours, and what hangs in the air."""

    hour: Hour
    weather: Weather
    season: str
    zenith: RGB
    horizon: RGB
    direct: RGB
    ambient: RGB
    sun: tuple[float, float] | None
    """The sun's or moon's place as shares of width and of the sky's height, if it can be seen."""
    side: float
    """−1 for light from the left, 1 from the right."""
    sight: float
    """Metres after which haze has taken 63 % of a colour."""
    cover: float
    """The share of the sky that clouds take."""
    lamps: float
    """How brightly windows are lit."""
    shadow: float
    """How dark cast shadows are."""

    @property
    def haze(self) -> RGB:
        """The colour in which far things vanish."""
        return self.horizon


def light_of(random: Random) -> Light:
    """Draw an hour, a weather and a season."""
    hour: Hour = random.choices(("day", "golden", "dusk", "night"), (55, 20, 15, 10))[0]
    season = random.choice(SEASONS)
    falling: Weather = "snowfall" if season == "winter" else "rain"
    kinds: tuple[Weather, ...] = ("clear", "cloudy", "overcast", "fog", falling)
    weather = random.choices(kinds, (30, 38, 12, 9, 11))[0]
    zeniths, horizons, direct_code, ambient_code = _HOURS[hour]
    zenith, horizon = varied(random, rgb(random.choice(zeniths))), varied(random, rgb(random.choice(horizons)))
    direct, ambient = rgb(direct_code), rgb(ambient_code)
    dull = {"clear": 0.0, "cloudy": 0.12, "overcast": 0.7, "fog": 0.62, "rain": 0.6, "snowfall": 0.55}[weather]
    veil = mixed(horizon, grey(horizon), 0.7)
    if dull > 0.2:
        zenith, horizon = mixed(zenith, times(veil, 0.92), dull), mixed(horizon, veil, dull)
        ambient = mixed(ambient, times(mixed(direct, grey(direct), 0.6), 0.8), 0.55 * dull)
        ambient = times(ambient, 1 + 0.18 * dull)
        direct = times(direct, 1 - 0.72 * dull)
    near = {"clear": 9000, "cloudy": 7000, "overcast": 2500, "fog": 140, "rain": 700, "snowfall": 500}[weather]
    sun = None
    if weather in ("clear", "cloudy"):
        low = {"day": (0.08, 0.5), "golden": (0.5, 0.9), "dusk": (0.72, 1.02), "night": (0.1, 0.6)}[hour]
        sun = (random.uniform(0.06, 0.94), random.uniform(*low)) if random.random() < 0.7 else None
    side = (1.0 if sun[0] > 0.5 else -1.0) if sun else random.choice((-1.0, 1.0))
    return Light(
        hour,
        weather,
        season,
        zenith,
        horizon,
        direct,
        ambient,
        sun,
        side,
        near * random.uniform(0.7, 1.6),
        random.uniform(0.2, 0.62) if weather == "cloudy" else random.uniform(0.0, 0.16) if weather == "clear" else 0.0,
        {"day": 0.0, "golden": 0.25, "dusk": 0.75, "night": 1.0}[hour],
        {"clear": 0.42, "cloudy": 0.32}.get(weather, 0.1) * (0.5 if hour == "night" else 1.0),
    )
