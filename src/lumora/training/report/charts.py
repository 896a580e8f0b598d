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
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    bottom: int = _BOTTOM


def line_chart(
    title: str,
    values: Sequence[tuple[float, float | None]],
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
    known = [(epoch, value) for epoch, value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    marks = ticks(min(value for _, value in known), max(value for _, value in known))
    last = max(1.0, max(epoch for epoch, _ in values))

    def x_of(epoch: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * epoch / last, 1)

    def y_of(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - marks[0]) / (marks[-1] - marks[0]), 1)

    def point(epoch: float, value: float) -> Point:
        return Point(x_of(epoch), y_of(value), f"epoch {epoch:g}: {told(value)}")

    points = {epoch: point(epoch, value) for epoch, value in known}
    first, final = known[0], known[-1]
    return Chart(
        title=title,
        summary=f"{title}: {told(first[1])} after epoch {first[0]:g}, {told(final[1])} after epoch {final[0]:g}.",
        lines=_lines(points, [epoch for epoch, _ in values]),
        points=tuple(points.values()) if len(points) <= _POINTS else (),
        best=None if best is None else points.get(best),
        rows=tuple(Mark(y_of(value), on_axis(value)) for value in marks),
        columns=tuple(Mark(x_of(epoch), f"{epoch:g}") for epoch in _epochs(last)),
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
