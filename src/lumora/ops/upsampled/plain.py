"""The same losses in torch's own operations, for where a node of our own cannot go; they hold full-size logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from lumora.ops.upsampled.tiles import working_dtype


def is_needed() -> bool:
    """Whether `torch.func` transforms what runs, or derivatives are taken forward."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, label_smoothing: float, mean: bool
) -> Tensor:
    """The cross entropy; zero where no pixel counts."""
    full = _full_size(logits, target)
    target = target.long()
    weight = full.new_ones(full.shape[1]) if weight is None else weight.to(full)
    total = F.cross_entropy(
        full, target, weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="sum"
    )
    if not mean:
        return total
    valid = target != ignore_index
    weighed = (weight[torch.where(valid, target, 0)] * valid).sum()
    return total * torch.where(weighed > 0, 1 / weighed, 0)


def dice(logits: Tensor, target: Tensor, ignore_index: int, smooth: float) -> Tensor:
    """The Dice loss; zero where no pixel counts."""
    likely = _full_size(logits, target).softmax(1)
    target = target.long()[:, None]
    counts = target != ignore_index
    own = (target == torch.arange(likely.shape[1], device=likely.device)[:, None, None]) & counts
    over = (0, 2, 3)
    sizes = (likely * counts).sum(over) + own.sum(over) + smooth
    score = (2 * (likely * own).sum(over) + smooth) * torch.where(sizes > 0, 1 / sizes, 0)
    present = own.any(3).any(2).any(0)
    return ((1 - score) * present).sum() / present.sum().clamp(min=1)


def _full_size(logits: Tensor, target: Tensor) -> Tensor:
    return F.interpolate(logits.to(working_dtype(logits)), target.shape[-2:], mode="bilinear", align_corners=False)
