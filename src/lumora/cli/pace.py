"""How fast a training goes, and how long it will still take."""

from __future__ import annotations

from collections import deque
from statistics import fmean

_LAST = 32
"""Steps by which the next ones are judged."""


class Pace:
    """Watches steps and evaluations, by a clock that callers read.

    >>> pace = Pace(steps=4, epochs=2, epoch=0, step=0, now=0.0)
    >>> pace.evaluated(0, now=10.0)
    >>> pace.stepped(1, 20.0, now=13.0)
    >>> pace.left(now=13.0)
    29.0
    >>> pace.left(now=14.5)
    27.5
    """

    def __init__(self, *, steps: int, epochs: int, epoch: int, step: int, now: float) -> None:
        self._steps, self._epochs = steps, epochs
        self._epoch, self._step = epoch, step
        self._seconds: deque[float] = deque(maxlen=_LAST)
        self._speeds: deque[float] = deque(maxlen=_LAST)
        self._evaluation = 0.0
        self._last = now

    def stepped(self, step: int, speed: float, now: float) -> None:
        """Take note of a step, and of its pictures a second."""
        self._seconds.append(now - self._last)
        self._speeds.append(speed)
        self._step, self._last = step, now

    def evaluated(self, epoch: int, now: float) -> None:
        """Take note of an evaluation, which began when the last step was done."""
        self._evaluation = now - self._last
        self._epoch, self._last = epoch, now

    @property
    def speed(self) -> float | None:
        """Pictures a second in the last steps."""
        return fmean(self._speeds) if self._speeds else None

    def left(self, now: float) -> float | None:
        """Seconds to the end; None until there was a step."""
        if not self._seconds:
            return None
        steps = (self._steps - self._step) * fmean(self._seconds)
        evaluations = (self._epochs - self._epoch) * self._evaluation
        return max(0.0, steps + evaluations - (now - self._last))
