"""How a training went, epoch by epoch, from the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lumora.training.report import telling
from lumora.training.report.charts import Chart, Values, line_chart, several_lines

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Course:
    """What there is to say of the whole way."""

    epochs: int
    """Whole ones, done when it ended."""
    best_epoch: float | None
    """None where nothing was measured to choose by."""
    seconds: float
    before: float | None
    """The main score before the training."""
    charts: tuple[Chart, ...]


def course(rows: Rows, main: str) -> Course:
    """The way of a training; `main` is the score that is shown."""
    epochs = _epochs(rows)
    best = [epoch for epoch, row in zip(epochs, rows, strict=True) if row.get("is_best") and row.get(main) is not None]
    best_epoch = best[-1] if best else None

    def values(name: str) -> list[tuple[float, float | None]]:
        return [(epoch, row.get(name)) for epoch, row in zip(epochs, rows, strict=True)]

    charts = (
        line_chart("Loss", values("loss"), telling.number),
        line_chart(telling.title(main), values(main), telling.percent, best_epoch, telling.round_percent),
        line_chart("Learning rate", values("rate"), telling.number),
    )
    return Course(
        epochs=int(rows[-1].get("epoch") or 0) if rows else 0,
        best_epoch=best_epoch,
        seconds=float(rows[-1].get("seconds") or 0) if rows else 0,
        before=next((row.get(main) for row in rows if row.get("step") == 0), None),
        charts=tuple(chart for chart in charts if chart is not None),
    )


def courses(named: Sequence[tuple[str, Rows]], scores: Sequence[str]) -> tuple[Chart, ...]:
    """The ways of several trainings side by side: a chart for each measure, with a line for each of them."""

    def values(name: str) -> list[tuple[str, Values]]:
        return [
            (run, [(epoch, row.get(name)) for epoch, row in zip(_epochs(rows), rows, strict=True)])
            for run, rows in named
        ]

    charts = (
        several_lines("Loss", values("loss"), telling.number),
        *(several_lines(telling.title(name), values(name), telling.percent, telling.round_percent) for name in scores),
        several_lines("Learning rate", values("rate"), telling.number),
    )
    return tuple(chart for chart in charts if chart is not None)


def _epochs(rows: Rows) -> list[float]:
    """How many epochs were done at each row, with the part of one that was ended early."""
    steps = next((row["step"] / row["epoch"] for row in rows if row.get("epoch") and row.get("step")), None)
    return [float(row.get("step", 0)) / steps if steps else float(row.get("epoch", 0)) for row in rows]
