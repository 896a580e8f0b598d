"""What goes wrong in trainings again and again: noticed, acted on, and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from lumora.errors import TrainingError
from lumora.training.stepping import Stepped

_IN_A_ROW = 3
_HALVINGS = 3
_SETBACKS = 8
_NEARLY_ALL = 0.995
_PATIENCE = 5
_PART_OF_EPOCHS = 3


@dataclass
class Guards:
    """Watches steps and evaluations, and slows the training down where that helps. What it remembers is saved."""

    scale: float = 1.0
    """What all learning rates are multiplied with."""
    unsound: int = 0
    """Steps in a row whose loss or gradient was no finite number."""
    left_out: int = 0
    """All such steps."""
    setbacks: int = 0
    """How often the weights went back to what they were before."""
    collapsed: int = 0
    """Evaluations in a row in which one class was said of nearly everything."""
    slowed: bool = False
    """Whether the rates were halved because the score did not rise."""
    pending: list[str] = field(default_factory=list[str], repr=False)
    """What is to be told."""

    def after_step(self, stepped: Stepped) -> bool:
        """Look at a step; one that is not sound was left out. Whether to go back to the weights before.

        Several in a row halve the rates: weights that a step threw far away give no numbers any more.
        """
        if stepped.changed:
            self.unsound = 0
        if stepped.changed or stepped.overflowed:
            return False
        self.unsound += 1
        self.left_out += 1
        if self.left_out == 1:
            self.pending.append(
                "The loss or its gradient was no finite number in a step, which was left out; others will be too."
            )
        if self.unsound % _IN_A_ROW:
            return False
        if self.unsound // _IN_A_ROW > _HALVINGS or self.setbacks == _SETBACKS:
            raise TrainingError(self._given_up(stepped.loss))
        self.setbacks += 1
        self._halve(
            f"the loss or its gradient was no finite number in {_IN_A_ROW} steps in a row. The weights are again what "
            "they were at the best evaluation"
        )
        return True

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

    def after_score(self, best: float, epochs_without_gain: int, epochs: int) -> None:
        """Look at how long the score has not risen; after a third of the training the rates are halved, once."""
        wait = max(_PATIENCE, -(-epochs // _PART_OF_EPOCHS))
        if not self.slowed and best < 1 and epochs_without_gain >= wait:
            self.slowed = True
            self._halve(f"the score has not risen above {best:.4g} for {epochs_without_gain} epochs")

    def state(self) -> dict[str, Any]:
        """What is saved: plain values."""
        return {name: value for name, value in asdict(self).items() if name != "pending"}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Guards:
        """What was saved."""
        return cls(**state)

    def take_pending(self) -> list[str]:
        """What is to be told now."""
        pending, self.pending = self.pending, []
        return pending

    def _halve(self, why: str) -> None:
        self.scale /= 2
        self.pending.append(f"All learning rates are halved: {why}.")

    def _given_up(self, loss: float) -> str:
        found = f"The loss was no finite number in {self.unsound} steps in a row (the last: {loss:g})"
        if self.setbacks == _SETBACKS:
            found = f"The loss was no finite number in {self.left_out} steps (the last: {loss:g})"
        return (
            f"{found}, also at {self.scale:.2g} of the learning rates. Nothing was learnt from these steps. Look for "
            "broken pictures with `lumora doctor`, or take train.precision=fp32 and a smaller train.rate."
        )
