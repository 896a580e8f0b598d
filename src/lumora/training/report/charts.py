"""Lines over epochs, laid out for a small SVG. The template draws what is computed here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 216
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 348, 14, 178
_POINTS = 60
"""With more, a line is drawn without them."""
_ON_AXIS = 6


Values = Sequence[tuple[float, float | None]]
"""Epochs with what was measured after them, if anything was."""


@dataclass(frozen=True)
class Mark:
    """A place in a chart, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A measurement in a chart."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Series:
    """The line of one among several."""

    name: str
    lines: tuple[str, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """Everything that is drawn."""

    title: str
    summary: str
    """What it shows, for those who cannot see it."""
    lines: tuple[str, ...]
    """Paths, broken where there is no measurement."""
    points: tuple[Point, ...]
    best: Point | None
    rows: tuple[Mark, ...]
    """Heights with a number beside them."""
    columns: tuple[Mark, ...]
    series: tuple[Series, ...] = ()
    """The lines of several in place of `lines`; one of which nothing was measured is there without any."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    bottom: int = _BOTTOM


def line_chart(
    title: str,
    values: Values,
    told: Callable[[float | None], str],
    best: float | None = None,
    on_axis: Callable[[float], str] = lambda value: f"{value:.4g}",
) -> Chart | None:
    """A chart of values by epoch; None where there is no value.

    Args:
        title: stands above.
        values: epochs with what was measured after them, if anything was.
        told: a value as text.
        best: the epoch that is marked.
        on_axis: a round value as text.
    """
    known = _known(values)
    if not known:
        return None
    scale = _scale(known, max(epoch for epoch, _ in values))
    points = scale.points(known, told)
    return Chart(
        title=title,
        summary=f"{title}: {_ends(known, told)}.",
        lines=_lines(points, [epoch for epoch, _ in values]),
        points=_few(points),
        best=None if best is None else points.get(best),
        rows=scale.rows(on_axis),
        columns=scale.columns(),
    )


def several_lines(
    title: str,
    named: Sequence[tuple[str, Values]],
    told: Callable[[float | None], str],
    on_axis: Callable[[float], str] = lambda value: f"{value:.4g}",
) -> Chart | None:
    """A chart with a line for each name; None where nobody has a value.

    Args:
        title: stands above.
        named: names, and epochs with what was measured after them.
        told: a value as text.
        on_axis: a round value as text.
    """
    known = [_known(values) for _, values in named]
    if not any(known):
        return None
    scale = _scale(
        [pair for found in known for pair in found], max(epoch for _, values in named for epoch, _ in values)
    )
    series: list[Series] = []
    for (name, values), found in zip(named, known, strict=True):
        points = scale.points(found, told)
        series.append(Series(name, _lines(points, [epoch for epoch, _ in values]), _few(points)))
    ends = [f"{name}, {_ends(found, told)}" for (name, _), found in zip(named, known, strict=True) if found]
    return Chart(
        title=title,
        summary=f"{title}: {'; '.join(ends)}.",
        lines=(),
        points=(),
        best=None,
        rows=scale.rows(on_axis),
        columns=scale.columns(),
        series=tuple(series),
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, evenly apart, from at most the lowest to at least the highest; three to seven of them.

    >>> ticks(0.03, 0.97)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(5.0, 5.0)
    [4.5, 5.0, 5.5]
    """
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        room = abs(low) / 10 or 0.5
        return [low - room, low, low + room]
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.9g}") for number in range(first, last + 1)]


@dataclass(frozen=True)
class _Scale:
    """Where values and epochs lie in a chart."""

    marks: Sequence[float]
    last: float
    """The last epoch."""

    def x(self, epoch: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * epoch / self.last, 1)

    def y(self, value: float) -> float:
        low, high = self.marks[0], self.marks[-1]
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low), 1)

    def points(self, known: Sequence[tuple[float, float]], told: Callable[[float | None], str]) -> dict[float, Point]:
        return {epoch: Point(self.x(epoch), self.y(value), f"epoch {epoch:g}: {told(value)}") for epoch, value in known}

    def rows(self, on_axis: Callable[[float], str]) -> tuple[Mark, ...]:
        return tuple(Mark(self.y(value), on_axis(value)) for value in self.marks)

    def columns(self) -> tuple[Mark, ...]:
        return tuple(Mark(self.x(epoch), f"{epoch:g}") for epoch in _epochs(self.last))


def _scale(known: Sequence[tuple[float, float]], last: float) -> _Scale:
    values = [value for _, value in known]
    return _Scale(ticks(min(values), max(values)), max(1.0, last))


def _known(values: Values) -> list[tuple[float, float]]:
    return [(epoch, value) for epoch, value in values if value is not None and math.isfinite(value)]


def _ends(known: Sequence[tuple[float, float]], told: Callable[[float | None], str]) -> str:
    """The first and the last value, in words."""
    (first, before), (last, after) = known[0], known[-1]
    return f"{told(before)} after epoch {first:g}, {told(after)} after epoch {last:g}"


def _few(points: dict[float, Point]) -> tuple[Point, ...]:
    """The points that are drawn: none where they are many."""
    return tuple(points.values()) if len(points) <= _POINTS else ()


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)


def _epochs(last: float) -> list[float]:
    """Whole epochs for the axis below."""
    step = max(1, math.ceil(_round_step(last / _ON_AXIS)))
    return [float(epoch) for epoch in range(0, math.floor(last) + 1, step)]


def _lines(points: dict[float, Point], epochs: Sequence[float]) -> tuple[str, ...]:
    """A path for every stretch without a gap."""
    stretches: list[list[Point]] = [[]]
    for epoch in epochs:
        if epoch in points:
            stretches[-1].append(points[epoch])
        elif stretches[-1]:
            stretches.append([])
    return tuple(
        "M" + "L".join(f"{point.x:g} {point.y:g}" for point in stretch) for stretch in stretches if len(stretch) > 1
    )
