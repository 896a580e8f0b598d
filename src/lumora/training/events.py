"""What a training tells while it runs. Displays, files and trackers listen; the loop knows none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lumora.tasks.metrics.base import Scores


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
