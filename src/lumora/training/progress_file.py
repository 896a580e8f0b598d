"""How far a training is within its epoch, in a small file of its folder that is there while it trains."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lumora.training.events import Begun, Listener, Opened, StepDone

_EVERY = 1.0
"""Seconds between two writings."""


@dataclass(frozen=True)
class StepsDone:
    """How far a training is."""

    step: int
    """Steps done."""
    steps: int
    """Of the whole training."""
    epoch: int
    """Epochs done."""
    loss: float | None
    """Of the last step; None where it is no number."""
    left: float | None = None
    """Seconds until the last step, about, evaluations included; None where that is not known."""


def read(path: Path) -> StepsDone | None:
    """What the file says; None where there is none, or none that can be read."""
    try:
        return StepsDone(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


class ProgressFile(Listener):
    """Writes it every second or so, whole or not at all. It is for looking on: what cannot be written is left out.

    Args:
        path: where.
        now: a clock, in seconds.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._path, self._new, self._now = path, path.with_name(f".{path.name}.new"), now
        self._begun: Begun | None = None
        self._began = 0.0
        self._written = -math.inf

    def opened(self, event: Opened) -> None:
        """Remove what a killed process has left."""
        self.clear()

    def begun(self, event: Begun) -> None:
        """Begin to look at the clock."""
        self._begun, self._began = event, self._now()

    def step_done(self, event: StepDone) -> None:
        """Write it down, if the last time was long enough ago."""
        now = self._now()
        if now - self._written < _EVERY:
            return
        self._written = now
        loss = event.loss if math.isfinite(event.loss) else None
        self._write(StepsDone(event.step, event.steps, event.epoch, loss, self._left(event, now)))

    def clear(self) -> None:
        """Remove the file: the training has come to its end."""
        for path in (self._path, self._new):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _left(self, event: StepDone, now: float) -> float | None:
        begun = self._begun
        if begun is None or event.step <= begun.step:
            return None
        spent = now - self._began
        left = spent / (event.step - begun.step) * (event.steps - event.step)
        if begun.max_seconds is not None:
            left = min(left, max(0.0, begun.max_seconds - begun.seconds - spent))
        return round(left, 1)

    def _write(self, done: StepsDone) -> None:
        with contextlib.suppress(OSError):
            self._new.write_text(json.dumps(asdict(done)), encoding="utf-8")
            self._new.replace(self._path)  # not brought to the disk: nobody needs it after the machine's end
