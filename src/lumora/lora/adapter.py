"""One adapter in one layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Adapter:
    """Everything about one adapter in one layer except its tensors.

    The tensors live in the layer's own containers, because their names are those that PEFT's users look for.
    """

    name: str
    r: int
    alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    strength: float = 1.0

    @property
    def initial_scaling(self) -> float:
        """`alpha / r`, or `alpha / sqrt(r)` with rsLoRA."""
        return self.alpha / (math.sqrt(self.r) if self.use_rslora else self.r)

    @property
    def scaling(self) -> float:
        """What the product of the factors is multiplied with now."""
        return self.initial_scaling * self.strength


@dataclass
class Parts:
    """A new adapter that no layer holds yet: building it changes nothing, adding it cannot fail."""

    adapter: Adapter
    a: nn.Module | nn.Parameter
    b: nn.Module | nn.Parameter
    dropout: float = 0.0
    magnitude: nn.Module | None = None
    base_weights: dict[str, Tensor] | None = None
    """What the base's weights become (PiSSA and OLoRA move part of them into the factors)."""


class Magnitude(nn.Module):
    """The lengths that DoRA gives to a layer's outputs, learnt apart from their directions."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def extra_repr(self) -> str:
        """Say how many."""
        return f"{self.weight.numel()}"
