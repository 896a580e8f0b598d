"""What is asked of a base, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

TaskName = Literal["classification", "multilabel", "segmentation"]
HeadChoice = Literal["auto", "own", "light"]


@dataclass(frozen=True)
class Wish:
    """What is asked of a base."""

    task: TaskName | None
    num_labels: int
    labels: tuple[str, ...] | None
    head: HeadChoice
    heads: tuple[str, ...] | None
    width: int
    drop_path: float
    size: tuple[int, int]
    meta: bool

    @property
    def segments(self) -> bool:
        """Whether places get labels, not pictures."""
        return self.task == "segmentation"


@dataclass(frozen=True)
class Built:
    """A model with its head."""

    module: nn.Module
    heads: tuple[str, ...] = ()
    """The paths of what is fresh, or trained fully."""
    notes: tuple[str, ...] = ()
    output_layers: tuple[str, ...] = ()
    """Without a task: the paths of what would be replaced for one."""


def no_drop_path(wish: Wish) -> tuple[str, ...]:
    """What is noted of a model that cannot leave blocks out in training."""
    return (f"drop_path={wish.drop_path} has no effect: this model cannot be told to.",) if wish.drop_path else ()
