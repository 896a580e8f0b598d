"""The processes that train one model together, as a training sees them: who this one is, and what they can agree on.

How several of them talk is in `lumora.training.several`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from lumora.tasks.metrics import Metrics

Result = TypeVar("Result")


class Processes(ABC):
    """This process among those that train one model together. Whatever one of them calls here, all must call."""

    rank: int
    """Which one this is, from 0."""
    world: int
    """How many there are."""

    @property
    def is_first(self) -> bool:
        """Whether this is the one that chooses, tells and writes."""
        return self.rank == 0

    @abstractmethod
    def highest(self, mine: int) -> int:
        """The largest number that any of them gives."""

    @abstractmethod
    def add(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor the sum of everyone's, in place."""

    @abstractmethod
    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor what it is in the first process, in place."""

    @abstractmethod
    def from_first(self, work: Callable[[], bytes]) -> bytes:
        """What `work` gives in the first process, which alone does it."""

    @abstractmethod
    def from_first_here(self, work: Callable[[], str]) -> str:
        """What `work` gives in the first process on this machine, which alone does it here."""

    @abstractmethod
    def summed(self, metrics: Metrics) -> Metrics:
        """A copy with what all of them have counted."""

    def agree(self, mine: bool) -> bool:
        """Whether any of them says yes."""
        return bool(self.highest(int(mine)))

    def wait(self) -> None:
        """Go on when all are here."""
        self.highest(0)

    def first(self, work: Callable[[], Result]) -> Result | None:
        """Let the first process alone do something, while the others wait; they get None."""
        result = work() if self.is_first else None
        self.wait()
        return result

    def all_have(self, number: int) -> bool:
        """Whether all give the same number."""
        return self.highest(number) == -self.highest(-number)


class Alone(Processes):
    """One process by itself."""

    rank = 0
    world = 1

    def highest(self, mine: int) -> int:
        """Its own."""
        return mine

    def add(self, tensors: Sequence[Tensor]) -> None:
        """They are the sums."""

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """They are what they are there."""

    def from_first(self, work: Callable[[], bytes]) -> bytes:
        """It is the first."""
        return work()

    def from_first_here(self, work: Callable[[], str]) -> str:
        """It is the first."""
        return work()

    def summed(self, metrics: Metrics) -> Metrics:
        """What it has counted."""
        return metrics.summed()
