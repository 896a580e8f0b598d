"""The arithmetic of an adapted layer: `W x + scaling * B A x`, and its gradients, without waste.

A `LinearMap` says how one kind of weight is applied to an input and what the two gradients of that are.
`AdaptedProduct` combines a frozen weight with a pair of factors in one autograd node. Against the textbook
composition it keeps the input once instead of three times, adds the low-rank part in place, draws cheap dropout
masks, skips whatever gradient nobody asked for, and uses `W + scaling * B A` as one weight where that is fewer
operations.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from lumora.lora.dropout import dropped, keep_mask


class LinearMap(Protocol):
    """How a weight acts on an input."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The product itself."""
        ...

    def add(self, total: Tensor, x: Tensor, weight: Tensor, factor: float) -> None:
        """Add `factor` times the product to `total`, in place."""
        ...

    def input_gradient(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """The gradient with respect to `x`."""
        ...

    def add_input_gradient(self, total: Tensor, gradient: Tensor, weight: Tensor, x: Tensor) -> None:
        """Add the gradient with respect to `x` to `total`, in place."""
        ...

    def weight_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """The gradient with respect to `weight`."""
        ...

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to the bias."""
        ...

    def positions(self, x: Tensor) -> int:
        """How many times the weight is applied: tokens, or output pixels."""
        ...


class Matrix:
    """`x @ weight.T` on the last dimension, as `nn.Linear` does."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)

    def add(self, total: Tensor, x: Tensor, weight: Tensor, factor: float) -> None:
        _rows(total).addmm_(_rows(x), weight.t(), alpha=factor)

    def input_gradient(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return gradient @ weight

    def add_input_gradient(self, total: Tensor, gradient: Tensor, weight: Tensor, x: Tensor) -> None:
        _rows(total).addmm_(_rows(gradient), weight)

    def weight_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        gradient, x = _rows(gradient), _rows(x)
        if gradient.shape[1] > x.shape[1]:  # the thin matrix is cheaper to turn
            return (x.t() @ gradient).t().contiguous()
        return gradient.t() @ x

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        return _rows(gradient).sum(0)

    def positions(self, x: Tensor) -> int:
        return x.numel() // max(1, x.shape[-1])


class Pointwise:
    """A 1x1 convolution of stride one, computed as a matrix product over the pixels."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        matrix = weight.flatten(1)
        if _channels_last(x):
            return F.linear(x.movedim(1, -1), matrix, bias).movedim(-1, 1)
        y = torch.bmm(matrix.expand(x.shape[0], -1, -1), x.flatten(2))
        if bias is not None:
            y = y.add_(bias[:, None])
        return y.view(x.shape[0], len(matrix), *x.shape[2:])

    def add(self, total: Tensor, x: Tensor, weight: Tensor, factor: float) -> None:
        matrix = weight.flatten(1)
        if _channels_last(total):
            _rows(total.movedim(1, -1)).addmm_(_rows(x.movedim(1, -1)), matrix.t(), alpha=factor)
        else:
            total.flatten(2).baddbmm_(matrix.expand(x.shape[0], -1, -1), x.flatten(2), alpha=factor)

    def input_gradient(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return self.apply(gradient, weight.flatten(1).t())

    def add_input_gradient(self, total: Tensor, gradient: Tensor, weight: Tensor, x: Tensor) -> None:
        self.add(total, gradient, weight.flatten(1).t(), 1.0)

    def weight_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        if _channels_last(x) and _channels_last(gradient):
            product = _rows(gradient.movedim(1, -1)).t() @ _rows(x.movedim(1, -1))
        else:
            product = torch.bmm(gradient.flatten(2), x.flatten(2).transpose(1, 2)).sum(0)
        return product.view(weight.shape)

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        return gradient.flatten(2).sum((0, 2))

    def positions(self, x: Tensor) -> int:
        return x.numel() // max(1, x.shape[1])


class Convolution(NamedTuple):
    """A convolution, transposed or not, with zero padding."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = (0,)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return torch.convolution(x, weight, bias, *self._geometry(x))

    def add(self, total: Tensor, x: Tensor, weight: Tensor, factor: float) -> None:
        total.add_(self.apply(x, weight), alpha=factor)

    def input_gradient(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return self._backward(gradient, x, weight, [True, False, False])[0]

    def add_input_gradient(self, total: Tensor, gradient: Tensor, weight: Tensor, x: Tensor) -> None:
        total.add_(self.input_gradient(gradient, weight, x))

    def weight_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return self._backward(gradient, x, weight, [False, True, False])[1]

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        return gradient.flatten(2).sum((0, 2))

    def positions(self, x: Tensor) -> int:
        return x.shape[0] * math.prod(
            max(1, n * s if self.transposed else n // s) for n, s in zip(x.shape[2:], self.stride, strict=True)
        )

    def _geometry(self, x: Tensor) -> tuple[Any, ...]:
        output_padding = self.output_padding if self.transposed else (0,) * (x.dim() - 2)
        return self.stride, self.padding, self.dilation, self.transposed, output_padding, self.groups

    def _backward(self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
        return torch.ops.aten.convolution_backward(gradient, x, weight, None, *self._geometry(x), wanted)


class Maps(NamedTuple):
    """The three products of an adapted layer, and how the two factors make one weight (`None`: they make none)."""

    base: LinearMap
    down: LinearMap
    up: LinearMap
    composes: bool = True


def compose(a: Tensor, b: Tensor, weight: Tensor, factor: float, *, onto: Tensor | None = None) -> Tensor:
    """Return `factor * B A` in the shape of `weight` (out first), added to `onto` when given.

    >>> a, b = torch.ones(2, 3), torch.ones(4, 2)
    >>> compose(a, b, torch.zeros(4, 3), 0.5).unique().tolist()
    [1.0]
    """
    left, right = b.flatten(1), a.flatten(1)
    if onto is None:
        return (left @ right).mul(factor).view(weight.shape)
    return torch.addmm(onto.flatten(1), left, right, alpha=factor).view(weight.shape)


def merging_pays(maps: Maps, x: Tensor, weight: Tensor) -> bool:
    """Whether `W + scaling B A` as one weight is less work than two thin products beside `W`.

    Building it costs `out * in * r` twice (again for the backward pass); it saves `r * (in + out)` for each position.
    In half precision the sum would be rounded to the base's few bits and small changes lost, so there it never pays.
    """
    if not maps.composes or weight.dtype not in (torch.float32, torch.float64):
        return False
    n_out, n_in = weight.shape[0], weight[0].numel()
    return maps.base.positions(x) * (n_in + n_out) > 2 * n_in * n_out


class AdaptedProduct(torch.autograd.Function):
    """`base(x, weight, bias) + scaling * up(down(dropout(x), a), b)` for a weight that gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        maps: Maps,
        scaling: float,
        dropout: float,
    ) -> Tensor:
        ctx.maps, ctx.scaling, ctx.keep = maps, scaling, 1.0 - dropout
        ctx.merged = dropout == 0.0 and merging_pays(maps, x, weight)
        if ctx.merged:
            y = maps.base.apply(x, compose(a, b, weight, scaling, onto=weight), bias)
            ctx.save_for_backward(x, weight, a, b, None, None)
            return _no_view(y)
        mask = keep_mask(x, dropout) if dropout else None
        # torch multiplies in another order where a weight wants a gradient; so frozen or not, outputs are equal.
        h = maps.down.apply(x if mask is None else dropped(x, mask), a.detach())
        y = maps.base.apply(x, weight, bias)
        maps.up.add(y, h, b, scaling / ctx.keep)
        ctx.save_for_backward(x, weight, a, b, h, mask)
        return _no_view(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, h, mask = ctx.saved_tensors
        gradient, maps, scaling = gradients[0], ctx.maps, ctx.scaling / ctx.keep
        wants_x, _, wants_bias, wants_a, wants_b, *_ = ctx.needs_input_grad
        grad_x = grad_a = grad_b = grad_h = None
        graph = torch.is_grad_enabled()  # create_graph=True
        if (wants_a or wants_b) and (h is None or graph):  # the saved h would hide how it depends on x and a
            h = maps.down.apply(x if mask is None else dropped(x, mask), a)
        kept = None if mask is None else mask.to(x.dtype)
        if wants_b:
            grad_b = maps.up.weight_gradient(gradient, h, b) * scaling
        if wants_a or (wants_x and not ctx.merged):
            grad_h = maps.up.input_gradient(gradient, b * scaling, h)
        if wants_x and ctx.merged:
            grad_x = maps.base.input_gradient(gradient, compose(a, b, weight, scaling, onto=weight), x)
        elif wants_x and mask is None:
            grad_x = maps.base.input_gradient(gradient, weight, x)
            maps.down.add_input_gradient(grad_x, grad_h, a, x)
        elif wants_x:
            grad_x = maps.down.input_gradient(grad_h, a, x).mul_(kept)
            maps.base.add_input_gradient(grad_x, gradient, weight, x)
        if wants_a:
            seen = x if kept is None else torch.mul(x, kept, out=None if graph else kept)
            grad_a = maps.down.weight_gradient(grad_h, seen, a)
        grad_bias = maps.base.bias_gradient(gradient) if wants_bias else None
        return grad_x, None, grad_bias, grad_a, grad_b, None, None, None


def fused_product_works_here() -> bool:
    """Whether custom autograd nodes can run now: not while tracing, exporting, in `torch.func` or forward mode."""
    return not (
        torch.compiler.is_compiling()
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or torch._C._are_functorch_transforms_active()
    )


def _no_view(y: Tensor) -> Tensor:
    """The same memory as a tensor of its own: autograd forbids in-place activations on a view that a node returns."""
    return y.data if y._is_view() else y


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
