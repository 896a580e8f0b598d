"""What a bundle adds to its base: all of the bundle's tensors, and none of the base's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Update:
    """How the output of one linear layer or convolution changes: it becomes `stretch * y + B A x + shift`."""

    a: Tensor | None = None
    """The first factor: (r, in), or (r, in, height, width) of a convolution."""
    b: Tensor | None = None
    """The second factor (out, r), scaling and stretching included."""
    stretch: Tensor | None = None
    """(out,), where lengths were learnt apart from directions (DoRA)."""
    shift: Tensor | None = None
    """(out,), where biases were trained."""

    def tensors(self) -> Iterator[Tensor]:
        """Those that there are."""
        yield from (tensor for tensor in (self.a, self.b, self.stretch, self.shift) if tensor is not None)


@dataclass(frozen=True, eq=False)
class Addition:
    """What makes a bundle's model out of its base."""

    updates: Mapping[str, Update] = field(default_factory=dict[str, Update])
    """By the layers' paths in the base."""
    modules: Mapping[str, nn.Module] = field(default_factory=dict[str, nn.Module])
    """Modules that stand in the places of the base's own: heads, and norms that were trained."""

    @cached_property
    def bytes(self) -> int:
        """The memory that it takes."""
        found = {tensor for update in self.updates.values() for tensor in update.tensors()}
        for module in self.modules.values():
            found |= {*module.parameters(), *module.buffers()}
        return sum(tensor.numel() * tensor.element_size() for tensor in found)
