"""How often each class was right, said and meant."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lumora.tasks.metrics.counter import Counter


@dataclass(frozen=True)
class Decision:
    """One class's share of the decisions."""

    right: int
    """Said and meant."""
    said: int
    meant: int

    @property
    def seen(self) -> bool:
        """Whether the class occurs at all, in labels or predictions."""
        return self.said + self.meant > 0

    @property
    def precision(self) -> float:
        """Of those said, the share that was meant; 0 if none was said."""
        return self.right / max(self.said, 1)

    @property
    def recall(self) -> float:
        """Of those meant, the share that was said; 0 if none was meant."""
        return self.right / max(self.meant, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall.

        >>> Decision(right=2, said=4, meant=2).f1
        0.6666666666666666
        """
        return 2 * self.right / max(self.said + self.meant, 1)


class Decisions(Counter):
    """Three counts of each class: right, said, meant."""

    def __init__(self, classes: int) -> None:
        super().__init__(3, classes)

    def update(self, said: Tensor, meant: Tensor) -> None:
        """Count booleans (N, K): which classes were said of a sample, and which were meant."""
        self.counts[0] += (said & meant).sum(0)
        self.counts[1] += said.sum(0)
        self.counts[2] += meant.sum(0)

    def said_and_meant(self) -> tuple[Tensor, Tensor]:
        """How often each class was said, and how often it was meant."""
        return self.counts[1].cpu(), self.counts[2].cpu()

    def decisions(self) -> list[Decision]:
        """One for each class."""
        return [Decision(*counts) for counts in self.counts.T.tolist()]
