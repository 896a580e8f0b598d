"""A training in small: everything that a training does, with a few pictures, while it is measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lumora.bundle import read_about
from lumora.data import Sample, Source
from lumora.training.events import EpochDone, Listener, StepDone
from lumora.training.planning import process_memory
from lumora.training.planning.probed import Probed
from lumora.training.recipe import Recipe
from lumora.training.running import finetune
from lumora.training.setup import source_for

STEPS = 5
"""In each of two epochs: the first one decodes pictures, and its first step warms up."""
SECONDS = 30.0
"""After so long it ends with the present step."""
_FOR_VALIDATION = {"segmentation": 8}
_USUALLY_FOR_VALIDATION = 64
"""Pictures to evaluate on: two batches."""
_CACHE = "1GB"
"""Room for the few pictures: in memory, as nothing is to be left on the disk."""


def probe(recipe: Recipe, folder: Path, began: float) -> Probed:
    """Train in small and measure it; files go to `folder`. Nothing else may have run in this process before.

    `began` is when the process started, on the monotonic clock.
    """
    assert recipe.train.batch_size is not None
    clock = _Clock(recipe.train.batch_size)
    run = finetune(
        _few(source_for(recipe.data), recipe),
        recipe.base.name or "",
        recipe=recipe,
        out=folder / "run",
        settings=_in_small(recipe),
        listeners=[clock],
    )
    ended, most = time.monotonic(), process_memory.most_held()
    assert run.bundle is not None
    return Probed(
        first_steps=clock.steps[0],
        later_steps=clock.steps[1],
        evaluation=clock.evaluations[-1] if clock.evaluations else 0.0,
        evaluated=clock.evaluated,
        before=clock.began_steps - began,
        between=max(0.0, clock.between),
        after=ended - clock.last,
        most_held=None if most is None else most - clock.mapped,
        held_before=clock.held,
        held_after=process_memory.held_now(),
        readers=clock.readers,
        on_device=torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None,
        fingerprint=read_about(run.bundle).base.fingerprint,
        notes=clock.notes,
    )


def _few(source: Source, recipe: Recipe) -> Source:
    """The same data with as many pictures as are looked at."""
    assert recipe.train.batch_size is not None
    most = {"train": STEPS * recipe.train.batch_size}
    most["validation"] = _FOR_VALIDATION.get(source.task, _USUALLY_FOR_VALIDATION)
    splits = {name: _spread(source.splits[name], most[name]) for name in most if name in source.splits}
    return dataclasses.replace(source, splits=splits)


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """So many of them, from everywhere: data often lie sorted by class."""
    count = min(most, len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]


def _in_small(recipe: Recipe) -> dict[str, Any]:
    """What is other than in the whole training."""
    small: dict[str, Any] = {"train.epochs": 2, "train.max_time": SECONDS, "train.patience": "null", "run.track": []}
    if recipe.run.cache_bytes:
        small |= {"run.cache_on": "ram", "run.cache": _CACHE}
    return small


class _Clock(Listener):
    """Measures what it hears of."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.steps: tuple[list[float], list[float]] = ([], [])
        """Seconds of each step of the first and of the second epoch."""
        self.evaluations: list[float] = []
        """Seconds for a picture."""
        self.began_steps = 0.0
        """When the first evaluation was done."""
        self.between = 0.0
        self.last = time.monotonic()
        """When something happened last."""
        self.held: int | None = None
        self.mapped = self.readers = 0
        self.notes: list[str] = []
        """What was told once steps had begun."""
        self.evaluated = 0
        """Pictures in an evaluation."""

    def step_done(self, event: StepDone) -> None:
        """Take the time of a step, reading included."""
        now = time.monotonic()
        seconds = self._batch_size / event.pictures_per_second
        if event.epoch == 1 and not self.steps[1]:
            self.between = now - self.last - seconds
        self.steps[event.epoch].append(seconds)
        self.last = now

    def told(self, text: str) -> None:
        """Keep what is told of steps; what is told of the few pictures says nothing of all."""
        if self.began_steps:
            self.notes.append(text)

    def evaluating(self, done: int, pictures: int) -> None:
        """Note how far the evaluation is."""
        self.evaluated = done

    def epoch_done(self, event: EpochDone) -> None:
        """Take the time of the evaluation since the last step, and the memory."""
        now = time.monotonic()
        if event.step == 0:
            self.began_steps = now
            self.held = process_memory.held_now()
        elif self.evaluated:
            self.evaluations.append((now - self.last) / self.evaluated)
        self.last = now
        self.mapped = process_memory.mapped_from_memory()
        self.readers = process_memory.of_readers()
