"""How long a training goes, by what it is judged, how far it is, and why it ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lumora.training.schedule import Shape


class Ending(Enum):
    """Why a training ended."""

    COMPLETE = "all epochs are done"
    NO_GAIN = "the score has not risen for some time"
    TIME = "the time is over"
    ASKED = "it was asked to stop"


@dataclass(frozen=True)
class Course:
    """How long a training goes, and by what it is judged."""

    epochs: int
    warmup: float = 0.1
    schedule: Shape = "cosine"
    best_by: str | None = None
    """The score that decides; the task's own if not said."""
    keep_last: bool = False
    """Whether the last epoch is kept, whatever its score."""
    patience: int | None = None
    """Epochs without a better score after which it ends."""
    max_seconds: float | None = None
    checkpoint_every: float = 60.0
    """Seconds between checkpoints inside of an epoch; there is one after each epoch."""


@dataclass
class Progress:
    """How far a training is: plain values that are saved."""

    step: int = 0
    epoch: int = 0
    """Epochs done."""
    loss_sum: float = 0.0
    """Of the present epoch's steps."""
    loss_steps: int = 0
    best: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    """Spent before this process took it up."""
    evaluated: bool = False
    """Whether the model was evaluated as it is at this point; before the training, after epochs, and where it ends."""
