"""How a training goes, as the page shows it: curves, scores, pictures with predictions, and what is left to wait."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumora.errors import LumoraError
from lumora.studio.trainings import WORDS, Training
from lumora.tasks.metrics.base import Scores
from lumora.training import progress_file
from lumora.training.folder import RunFolder
from lumora.training.progress_file import StepsDone
from lumora.training.recipe import Recipe, read_recipe
from lumora.training.report.curves import Course, course
from lumora.training.schema.contradictions import SCORES

_ALL_SCORES = tuple(dict.fromkeys(name for names in SCORES.values() for name in names))


@dataclass(frozen=True)
class Progress:
    """All that is shown of a training."""

    name: str
    state: str
    words: str
    runs: bool
    epoch: int
    """Done."""
    epochs: int | None
    share: float
    """Of all epochs."""
    left: float | None
    """Seconds, about; None where that is not known."""
    now: StepsDone | None
    """Where it is within its epoch; None where it does not train just now."""
    main: str
    score: float | None
    """The best so far."""
    course: Course
    rows: Sequence[Mapping[str, Any]]
    """What was measured, evaluation by evaluation."""
    samples: str | None
    """The newest pictures with predictions, as an address that begins with `data:`."""
    samples_of: str
    notes: tuple[str, ...]
    said: tuple[str, ...]


def signature(training: Training) -> tuple[Any, ...]:
    """What is another one when there is something new to show, but for the steps of an epoch."""
    run = RunFolder(training.folder)
    sizes = tuple(_size(path) for path in (run.metrics, run.log, run.report))
    newest = _newest_samples(training.folder)
    steps = steps_of(training) is not None
    return (str(training.folder), training.state, sizes, newest and newest.name, training.said[-1:], steps)


def steps_of(training: Training) -> StepsDone | None:
    """Where a training is within its epoch; None where it does not train just now."""
    return progress_file.read(RunFolder(training.folder).progress) if training.runs else None


def progress_of(training: Training) -> Progress:
    """Read a training's files."""
    run = RunFolder(training.folder)
    rows = _rows(run)
    recipe = _recipe(run)
    main = _main(rows, recipe)
    done = int(rows[-1].get("epoch") or 0) if rows else 0
    epochs = recipe.train.epochs if recipe else None
    best = [row[main] for row in rows if row.get("is_best") and isinstance(row.get(main), float | int)]
    newest = _newest_samples(training.folder)
    return Progress(
        name=training.name,
        state=training.state,
        words=WORDS[training.state],
        runs=training.runs,
        epoch=done,
        epochs=epochs,
        share=min(1.0, done / epochs) if epochs else 0.0,
        left=_left(rows, epochs) if training.runs else None,
        now=steps_of(training),
        main=main,
        score=best[-1] if best else None,
        course=course(rows, main),
        rows=rows,
        samples=None if newest is None else _address(newest),
        samples_of="" if newest is None else _words(newest),
        notes=tuple(_lines(run.log)),
        said=training.said,
    )


def _rows(run: RunFolder) -> Sequence[Mapping[str, Any]]:
    try:
        return run.read_metrics()
    except (OSError, LumoraError):
        return []


def _recipe(run: RunFolder) -> Recipe | None:
    try:
        return read_recipe(run.recipe)
    except LumoraError:
        return None


def _main(rows: Sequence[Mapping[str, Any]], recipe: Recipe | None) -> str:
    """The score that decides, or the first one that was measured."""
    asked = recipe.train.best_by if recipe else None
    measured = next((name for row in rows for name in _ALL_SCORES if row.get(name) is not None), "accuracy")
    return asked or measured


def _left(rows: Sequence[Mapping[str, Any]], epochs: int | None) -> float | None:
    """Seconds until the last epoch is done, if the next ones take as long as those that are done."""
    done = int(rows[-1].get("epoch") or 0) if rows else 0
    if not epochs or not done:
        return None
    before = float(rows[0].get("seconds") or 0)
    return max(0.0, (float(rows[-1].get("seconds") or 0) - before) / done * (epochs - done))


def scores_of(values: Mapping[str, Any]) -> Scores:
    """The scores among the values of a row."""
    return Scores({name: float(values[name]) for name in _ALL_SCORES if isinstance(values.get(name), float | int)})


def _newest_samples(folder: Path) -> Path | None:
    found = [path for path in (folder / "samples").glob("epoch-*.jpg") if path.stem.partition("-")[2].isdecimal()]
    return max(found, key=_epoch, default=None)


def _epoch(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _words(path: Path) -> str:
    epoch = _epoch(path)
    return f"after epoch {epoch}" if epoch else "before the training"


def _address(path: Path) -> str | None:
    try:
        return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return list(dict.fromkeys(line for line in text.splitlines() if line.strip()))
