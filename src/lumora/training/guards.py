"""What goes wrong in trainings again and again: noticed, acted on, and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from lumora.errors import TrainingError
from lumora.training.stepping import Stepped

_IN_A_ROW = 3
_HALVINGS = 3
_NEARLY_ALL = 0.995


@dataclass
class Guards:
    """Watches steps and evaluations, and slows the training down where that helps. What it remembers is saved."""

    scale: float = 1.0
    """What all learning rates are multiplied with."""
    unsound: int = 0
    """Steps in a row whose loss or gradient was no finite number."""
    collapsed: int = 0
    """Evaluations in a row in which one class was said of nearly everything."""
    pending: list[str] = field(default_factory=list[str], repr=False)
    """What is to be told."""

    def after_step(self, stepped: Stepped) -> None:
        """Look at a step. One that is not sound was left out; several in a row halve the rates, at last end it."""
        if stepped.changed:
            self.unsound = 0
            return
        self.unsound += 1
        if self.unsound % _IN_A_ROW:
            return
        if self.unsound // _IN_A_ROW > _HALVINGS:
            raise TrainingError(
                f"The loss was no finite number in {self.unsound} steps in a row (the last: {stepped.loss:g}), also at "
                f"an eighth of the learning rates. Nothing was learnt from these steps. Look for broken pictures with "
                "`lumora doctor`, or take train.precision=fp32 and a smaller train.rate."
            )
        self._halve(f"the loss or its gradient was no finite number in {_IN_A_ROW} steps in a row, which were left out")

    def after_evaluation(self, said: Tensor, meant: Tensor, names: Sequence[str]) -> None:
        """Look at how often each class was said and meant, of pictures or pixels."""
        total = float(said.sum())
        if len(said) < 2 or not total:
            return
        most = int(said.argmax())
        share_meant = float(meant[most]) / max(1.0, float(meant.sum()))
        if float(said[most]) < _NEARLY_ALL * total or share_meant > (1 + _NEARLY_ALL) / 2:
            self.collapsed = 0
            return
        self.collapsed += 1
        if self.collapsed == 2:
            self._halve(f"twice in a row the model said {names[most]!r} of nearly everything")

    def take_pending(self) -> list[str]:
        """What is to be told now."""
        pending, self.pending = self.pending, []
        return pending

    def _halve(self, why: str) -> None:
        self.scale /= 2
        self.pending.append(f"All learning rates are halved: {why}.")
