"""What a training tells while it runs. Displays, files and trackers listen; the loop knows none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lumora.tasks.metrics.base import Scores
from lumora.training.stopping import StopRequest

if TYPE_CHECKING:
    from lumora.data import Source
    from lumora.training.recipe import Recipe
    from lumora.training.rules.base import Origin


@dataclass(frozen=True)
class Opened:
    """Once data and choices are known, before the base is loaded."""

    folder: Path
    """Of the run."""
    recipe: Recipe
    """Without gaps."""
    origins: Mapping[str, Origin]
    """Where its values come from, as far as that is known."""
    source: Source


@dataclass(frozen=True)
class Begun:
    """Once everything is ready, before the first step."""

    trained: int
    """Parameters that are trained."""
    parameters: int
    """Of the whole model."""
    step: int
    """Steps that are done: more than 0 where a run is gone on with."""
    steps: int
    """Of the whole training."""
    epoch: int
    """Epochs that are done."""
    epochs: int
    best: float | None
    """The best score so far."""
    seconds: float
    """Spent so far."""
    max_seconds: float | None
    """After which training ends."""
    stop: StopRequest
    """Whether somebody asks for an end, at any time."""


@dataclass(frozen=True)
class StepDone:
    """After each step."""

    step: int
    """Steps done."""
    steps: int
    """Steps of the whole training."""
    epoch: int
    loss: float
    rate: float
    """The general learning rate."""
    pictures_per_second: float


@dataclass(frozen=True)
class EpochDone:
    """After each evaluation; the first one is before the training, at epoch 0."""

    epoch: int
    """Epochs done."""
    step: int
    loss: float | None
    """Mean over the epoch; None before the training."""
    rate: float
    scores: Scores
    main: str
    """The score that decides."""
    is_best: bool
    seconds: float
    """Since the training began, pauses between interrupted parts left out."""

    def row(self) -> Mapping[str, float | int | bool | None]:
        """As one line of a table."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "rate": self.rate,
            "is_best": self.is_best,
            **self.scores,
            "seconds": round(self.seconds, 3),
        }


class Listener:
    """Hears what it overrides."""

    def doing(self, what: str) -> None:
        """Hear of something beside steps and evaluations that takes its time, when it begins."""

    def opened(self, event: Opened) -> None:
        """Hear what was found and chosen."""

    def begun(self, event: Begun) -> None:
        """Hear that everything is ready."""

    def step_done(self, event: StepDone) -> None:
        """Hear of a step."""

    def evaluating(self, done: int, pictures: int) -> None:
        """Hear how many pictures of an evaluation are done."""

    def epoch_done(self, event: EpochDone) -> None:
        """Hear of an evaluation."""

    def told(self, text: str) -> None:
        """Hear something that the user should know."""


class Audience(Listener):
    """Several listeners as one."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)

    def doing(self, what: str) -> None:
        """Tell all what takes its time."""
        for listener in self._listeners:
            listener.doing(what)

    def opened(self, event: Opened) -> None:
        """Tell all what was found and chosen."""
        for listener in self._listeners:
            listener.opened(event)

    def begun(self, event: Begun) -> None:
        """Tell all that everything is ready."""
        for listener in self._listeners:
            listener.begun(event)

    def step_done(self, event: StepDone) -> None:
        """Tell all of a step."""
        for listener in self._listeners:
            listener.step_done(event)

    def evaluating(self, done: int, pictures: int) -> None:
        """Tell all how far an evaluation is."""
        for listener in self._listeners:
            listener.evaluating(done, pictures)

    def epoch_done(self, event: EpochDone) -> None:
        """Tell all of an evaluation."""
        for listener in self._listeners:
            listener.epoch_done(event)

    def told(self, text: str) -> None:
        """Tell all something that the user should know."""
        for listener in self._listeners:
            listener.told(text)
