"""Norms as what they are at the end: a factor and a summand for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_BATCH_NORMS = {
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "timm.layers.norm_act.BatchNormAct2d",
}
"""Exact types, by name, so that timm need not be imported to know its own."""


@dataclass(frozen=True, eq=False)
class Affine:
    """The factor and the summand of each channel, of a norm in eval mode."""

    scale: Tensor
    shift: Tensor

    def apply(self, norm: nn.Module, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """What norms like `norm` give for samples with these factors and summands (B, channels)."""
        if isinstance(norm, nn.LayerNorm):
            plain = F.layer_norm(x, norm.normalized_shape, None, None, norm.eps)
            several = plain.reshape(len(scale), -1, *norm.normalized_shape)  # (B, entries, channels)
            return torch.addcmul(shift[:, None], several, scale[:, None]).view(x.shape)
        several = x.reshape(len(scale), -1, *x.shape[1:])  # (B, entries, channels, H, W)
        y = torch.addcmul(shift[:, None, :, None, None], several, scale[:, None, :, None, None]).view(x.shape)
        if hasattr(norm, "act"):  # timm's is followed by its activation
            own = cast(Any, norm)
            return own.act(own.drop(y))
        return y


def affine_of(norm: nn.Module) -> Affine | None:
    """A norm's factors and summands; None for modules of other kinds. They are worked out once for each module."""
    known: Affine | None = norm.__dict__.get("_lumora_affine")
    if known is None and (known := _worked_out(norm)) is not None:
        norm.__dict__["_lumora_affine"] = known
    return known


@torch.no_grad()
def _worked_out(norm: nn.Module) -> Affine | None:
    kind = type(norm)
    weight, bias = norm._parameters.get("weight"), norm._parameters.get("bias")
    if weight is None or bias is None:
        return None
    if isinstance(norm, nn.LayerNorm):
        plain = kind is nn.LayerNorm and len(norm.normalized_shape) == 1
        return Affine(weight.detach(), bias.detach()) if plain else None
    if f"{kind.__module__}.{kind.__qualname__}" not in _BATCH_NORMS or not isinstance(norm, _BatchNorm):
        return None
    if norm.running_mean is None or norm.running_var is None:
        return None
    # In 64 bits: the differences that this way of computing makes are then those of one rounding.
    scale = weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = bias.double() - norm.running_mean.double() * scale
    return Affine(scale.to(weight.dtype), shift.to(weight.dtype))
