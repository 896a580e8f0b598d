"""timm's convolutions with "same" padding as the one operation that ONNX has for them.

timm reckons the padding of every layer from the height and width of what comes in. Where these are free, `torch.export`
carries that as one formula inside the next, and works for many minutes on those of a whole network.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from torch import Tensor, nn


@contextmanager
def as_one_operation(model: nn.Module) -> Generator[dict[Any, Callable[..., Any]]]:
    """Let these layers be one operation each inside; gives what this operation becomes in ONNX."""
    operation, in_onnx = _operation()
    # onnxruntime reckons this padding for convolutions without gaps alone
    layers = [layer for layer in model.modules() if type(layer) is Conv2dSame and layer.dilation == (1, 1)]
    for layer in layers:
        layer.forward = partial(_run, operation, layer)
    try:
        yield {operation: in_onnx}
    finally:
        for layer in layers:
            del layer.forward


def _run(operation: Callable[..., Tensor], layer: Any, pixels: Tensor) -> Tensor:
    return operation(pixels, layer.weight, layer.bias, layer.stride, layer.groups)


@cache
def _operation() -> tuple[Any, Callable[..., Any]]:
    """The operation as torch knows it, and a function that writes it in ONNX."""
    from onnxscript import opset18

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], groups: int) -> Tensor:
        down, along = stride
        return conv2d_same(x, weight, bias, (down, along), (0, 0), (1, 1), groups)

    def shape_of(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], groups: int) -> Tensor:
        sides = ((side + step - 1) // step for side, step in zip(x.shape[2:], stride, strict=True))
        return x.new_empty(x.shape[0], weight.shape[0], *sides)

    def in_onnx(x: Any, weight: Any, bias: Any, stride: Sequence[int], groups: int) -> Any:
        return opset18.Conv(x, weight, bias, auto_pad="SAME_UPPER", strides=[*stride], group=groups)

    schema = "(Tensor x, Tensor weight, Tensor? bias, SymInt[] stride, SymInt groups) -> Tensor"
    made = torch.library.custom_op("lumora::conv2d_same", convolve, mutates_args=(), schema=schema)
    made.register_fake(shape_of)
    return torch.ops.lumora.conv2d_same.default, in_onnx
