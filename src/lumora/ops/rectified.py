"""ReLU and dropout in one, keeping one result for the backward pass instead of three.

Each of them would keep its own: ReLU its result, dropout its mask, and whatever follows its input, which is dropout's
result. That last one says by itself which values came through both: those above zero.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from lumora.ops.swap import has_hooks


def rectified_and_dropped(x: Tensor, activation: nn.Module, dropout: nn.Module) -> Tensor:
    """`dropout(activation(x))`, with the same draws and, where no value is infinite, the same gradients.

    What is in `x` may be overwritten.
    """
    if type(activation) is not nn.ReLU or type(dropout) is not nn.Dropout:
        return dropout(activation(x))
    if has_hooks(activation) or has_hooks(dropout):
        return dropout(activation(x))
    if not torch.is_grad_enabled():
        return dropout(F.relu_(x))
    if not _is_trained(x, dropout):
        return dropout(activation(x))
    return _RectifiedAndDropped.apply(x, dropout.p)  # type: ignore[return-value]


def _is_trained(x: Tensor, dropout: nn.Dropout) -> bool:
    """Whether something would be kept, and nobody but autograd's backward pass follows."""
    if not (dropout.training and dropout.p < 1 and x.requires_grad):
        return False
    if torch.compiler.is_compiling():  # a compiler keeps what it needs
        return False
    return not torch._C._are_functorch_transforms_active() and forward_ad._current_level < 0


class _RectifiedAndDropped(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, probability: float) -> Tensor:
        return F.dropout(F.relu(x), probability, training=True, inplace=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.scale = 1 / (1 - inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], result, 0) * ctx.scale, None
