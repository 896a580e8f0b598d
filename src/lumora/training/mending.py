"""Bringing weights back that a step broke: left out or not, one that is far too large leaves its marks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lumora.training.average import Average
from lumora.training.optimizing import Optimizer
from lumora.training.trained import changing_tensors, put


def go_back(model: nn.Module, optimizer: Optimizer, average: Average | None, before: Mapping[str, Tensor]) -> None:
    """Make everything that a training changes what it was before, and forget what the optimizer remembers."""
    put(changing_tensors(model), before)
    optimizer.forget()
    if average is not None:
        average.start_anew()


@torch.no_grad()
def mend(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Make all tensors that hold numbers that are not finite what they were before.

    Norms gather their statistics in the forward pass: those of a batch that was left out are in them.
    """
    for name, tensor in changing_tensors(model).items():
        if not is_sound(tensor):
            tensor.copy_(before[name])


def is_sound(tensor: Tensor) -> bool:
    """Whether all of it are finite numbers."""
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
