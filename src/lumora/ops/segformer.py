"""SegFormer's decode head with its fusing convolution moved in front of the upsampling; and the model's loss in tiles.

The head projects each feature map to D channels, upsamples them all to the largest, puts them side by side and mixes
the 4 D channels with a 1x1 convolution that has no bias. A pixelwise linear map and an interpolation whose weights sum
to one can change places. So each map goes through its projection and its own slice of the convolution, composed into
one small matrix, at its own resolution; then the results are upsampled and added. A batch norm that does not learn
statistics is pixelwise and linear too, and goes into the same matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.lora import routing
from lumora.lora.layers import LoraLayer
from lumora.ops.rectified import rectified_and_dropped
from lumora.ops.swap import has_hooks
from lumora.ops.upsampled import upsampled_cross_entropy


class Matrix(NamedTuple):
    """A pixelwise linear map: (outputs, inputs) and a bias."""

    weight: Tensor
    bias: Tensor | None


def commuted_head(
    head: Any, plain: Callable[..., Tensor], encoder_hidden_states: Sequence[Tensor], **kwargs: Any
) -> Tensor:
    """The forward pass of transformers' `SegformerDecodeHead`; equal up to rounding, in training and evaluation.

    Where somebody watches the layers that are passed over (a hook), or they do what no matrix does, it is the plain
    one.
    """
    fuse = as_matrix(head.linear_fuse)
    passed_over = (head.linear_projections, head.linear_fuse, head.batch_norm)
    if fuse is None or any(m.dim() != 4 for m in encoder_hidden_states) or any(map(_watched, passed_over)):
        return plain(encoder_hidden_states, **kwargs)
    parts = _slices(fuse.weight, len(encoder_hidden_states))
    bias = fuse.bias
    folds = _is_fixed(head.batch_norm)
    if folds:
        scale, shift = _scale_and_shift(head.batch_norm)
        parts = [scale[:, None] * part for part in parts]
        bias = shift if bias is None else shift + scale * bias
    (largest, *others), (first, *projections), (part, *rest) = encoder_hidden_states, head.linear_projections, parts
    total = _projected_and_mixed(largest, first, part, bias)
    for features, projection, part in zip(others, projections, rest, strict=True):
        y = _projected_and_mixed(features, projection, part, None)
        if y.shape[2:] != total.shape[2:]:
            y = F.interpolate(y, size=total.shape[2:], mode="bilinear", align_corners=False)
        total = total + y if torch._C._are_functorch_transforms_active() else total.add_(y)
    hidden = total if folds else head.batch_norm(total)
    return head.classifier(rectified_and_dropped(hidden, head.activation, head.dropout)).contiguous()


def tiled_loss(
    model: Any, plain: Callable[..., Any], pixel_values: Tensor, labels: Tensor | None = None, *args: Any, **kwargs: Any
) -> Any:
    """The forward pass of transformers' `SegformerForSemanticSegmentation`, its loss without full-size logits.

    The loss is in 32 bits, and zero where no pixel counts (else not a number).
    """
    if labels is None or model.config.num_labels <= 1:
        return plain(pixel_values, labels, *args, **kwargs)
    outputs = plain(pixel_values, None, *args, **kwargs)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs.logits
    loss = upsampled_cross_entropy(logits, labels, ignore_index=model.config.semantic_loss_ignore_index)
    if isinstance(outputs, tuple):
        return (loss, *outputs)
    return type(outputs)(**{**outputs, "loss": loss})


def as_matrix(layer: nn.Module) -> Matrix | None:
    """A linear layer or 1x1 convolution as one matrix, adapters included; None where it is more than that.

    With an adapter the matrix is `W + scaling B A`, through which gradients reach the factors.
    """
    if not isinstance(layer, LoraLayer):
        return _plain_matrix(layer)
    base = _plain_matrix(layer.base_layer)
    if base is None or routing.current() is not None:
        return None
    if layer.rests():
        return base
    if torch.compiler.is_compiling():  # a compiled graph has to follow switches that a sum of matrices does not have
        return None
    weight = base.weight.to(torch.promote_types(base.weight.dtype, torch.float32))
    with torch.autocast(weight.device.type, enabled=False):
        for name in layer.active_adapters:
            if layer.adapters[name].use_dora or layer._dropout_probability(name):
                return None
            if layer.site_factors(name, layer.sites[0])[2] is not None:
                return None
            weight = weight + layer.update_matrix(name)
    return Matrix(weight, base.bias)


def _plain_matrix(layer: nn.Module) -> Matrix | None:
    if type(layer) is nn.Linear:
        return Matrix(layer.weight, layer.bias)
    if type(layer) is not nn.Conv2d or layer.groups != 1 or any(layer.padding):
        return None
    if {*layer.kernel_size, *layer.stride} != {1}:
        return None
    return Matrix(layer.weight.flatten(1), layer.bias)


def _slices(weight: Tensor, count: int) -> list[Tensor]:
    """Which columns of the fusing convolution see which map; the smallest map lies first."""
    return list(weight.to(torch.promote_types(weight.dtype, torch.float32)).chunk(count, dim=1))[::-1]


def _projected_and_mixed(features: Tensor, projection: Any, part: Tensor, bias: Tensor | None) -> Tensor:
    """One map through its projection and its slice of the fusing convolution, at its own size."""
    matrix = as_matrix(projection.proj)
    if matrix is None:
        tokens: Tensor = projection(features)  # (batch, pixels, channels)
        features = tokens.transpose(1, 2).unflatten(2, features.shape[2:])
        return _pixelwise(features, part, bias)
    with torch.autocast(features.device.type, enabled=False):
        weight = part @ matrix.weight.to(part.dtype)
        if matrix.bias is not None:
            own = part @ matrix.bias.to(part.dtype)
            bias = own if bias is None else bias + own
    return _pixelwise(features, weight, bias)


def _pixelwise(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    dtype = features.dtype
    features = features.contiguous(memory_format=torch.channels_last)  # in which all that follows is faster
    return F.conv2d(features, weight.to(dtype)[:, :, None, None], None if bias is None else bias.to(dtype))


def _is_fixed(norm: nn.Module) -> bool:
    """Whether a batch norm is a fixed scale and shift for each channel: it uses statistics gathered before."""
    return type(norm) is nn.BatchNorm2d and not norm.training and norm.running_mean is not None


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    wide = torch.promote_types(variance.dtype, torch.float32)
    scale = torch.rsqrt(variance.to(wide) + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    shift = -mean.to(wide) * scale
    return scale, shift + norm.bias if norm.affine else shift


def _watched(module: nn.Module) -> bool:
    return any(has_hooks(m) for m in module.modules())
