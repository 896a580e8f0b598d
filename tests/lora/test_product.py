from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.lora.reference import assert_close, seeded
from torch import Tensor

from lumora.lora.dropout import keep_mask
from lumora.lora.product import AdaptedProduct, Convolution, Maps, Matrix, Pointwise, compose, merging_pays

SCALING = 1.7


@dataclass(frozen=True)
class Product:
    """A pair of factors on a weight, and what torch calls the three products."""

    name: str
    maps: Maps
    x: tuple[int, ...]
    weight: tuple[int, ...]
    a: tuple[int, ...]
    b: tuple[int, ...]
    base: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    down: Callable[[Tensor, Tensor], Tensor]
    up: Callable[[Tensor, Tensor], Tensor]
    merges: bool
    outputs: int
    memory: torch.memory_format = torch.contiguous_format

    def tensors(self, bias: bool = True) -> list[Tensor]:
        """x, weight, bias, a, b"""
        with seeded(1):
            shapes = [self.x, self.weight, (self.outputs,), self.a, self.b]
            x, weight, b_, a, b = (torch.randn(s, dtype=torch.float64) for s in shapes)
            x = x.contiguous(memory_format=self.memory).requires_grad_()
            return [x, weight, b_.requires_grad_() if bias else None, a.requires_grad_(), b.requires_grad_()]  # type: ignore[list-item]

    def expected(self, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, dropout: float) -> Tensor:
        y, dropped = self.base(x, weight, bias), x
        if dropout:
            dropped = x * keep_mask(x, dropout).double() / (1 - dropout)
        return y + SCALING * self.up(self.down(dropped, a), b)

    def __str__(self) -> str:
        return self.name


def _linear(name: str, x: tuple[int, ...], merges: bool) -> Product:
    maps = Maps(Matrix(), Matrix(), Matrix())
    return Product(name, maps, x, (4, 3), (2, 3), (4, 2), F.linear, F.linear, F.linear, merges, 4)


def _pointwise(name: str, x: tuple[int, ...], merges: bool, **options: Any) -> Product:
    n = len(x) - 2
    conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    ones = (1,) * n
    maps = Maps(Pointwise(), Pointwise(), Pointwise())
    return Product(name, maps, x, (4, 3, *ones), (2, 3, *ones), (4, 2, *ones), conv, conv, conv, merges, 4, **options)


def _convolution(name: str, x: tuple[int, ...], merges: bool, groups: int = 1) -> Product:
    def base(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, (2, 1), (1, 0), (1, 2), groups)

    def down(x: Tensor, a: Tensor) -> Tensor:
        return F.conv2d(x, a, None, (2, 1), (1, 0), (1, 2))

    geometry = Convolution((2, 1), (1, 0), (1, 2), groups)
    up = Convolution((1, 1), (0, 0), (1, 1), groups)
    maps = Maps(geometry, geometry._replace(groups=1), up, composes=groups == 1)
    shapes = ((4, 2 // groups, 3, 2), (2, 2, 3, 2), (4, 2 // groups, 1, 1))
    return Product(name, maps, x, *shapes, base, down, lambda h, b: F.conv2d(h, b, groups=groups), merges, 4)


def _transposed() -> Product:
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv_transpose2d(x, weight, bias, 2, 1, (1, 0))

    geometry = Convolution((2, 2), (1, 1), (1, 1), 1, True, (1, 0))
    maps = Maps(geometry, geometry, Convolution((1, 1), (0, 0), (1, 1)), composes=False)
    shapes = ((1, 2, 3, 2), (2, 4, 2, 3), (2, 2, 2, 3), (4, 2, 1, 1))
    return Product("transposed", maps, *shapes, apply, apply, F.conv2d, False, 4)


PRODUCTS = [
    _linear("linear_few", (3, 3), False),
    _linear("linear_many", (2, 4, 3), True),
    _linear("linear_vector", (3,), False),
    _pointwise("pointwise_few", (1, 3, 1, 2), False),
    _pointwise("pointwise_many", (2, 3, 2, 3), True),
    _pointwise("pointwise_1d", (2, 3, 5), True),
    _pointwise("pointwise_3d", (1, 3, 2, 2, 2), True),
    _pointwise("pointwise_channels_last", (2, 3, 2, 3), True, memory=torch.channels_last),
    _pointwise("pointwise_channels_last_few", (1, 3, 1, 3), False, memory=torch.channels_last),
    _convolution("convolution_few", (1, 2, 3, 3), False),
    _convolution("convolution_many", (2, 2, 4, 5), True),
    _convolution("convolution_grouped", (2, 2, 4, 5), False, groups=2),
    _transposed(),
]
both_drops = pytest.mark.parametrize("dropout", [0.0, 0.4], ids=["whole", "dropout"])


def _apply(product: Product, tensors: list[Tensor], dropout: float = 0.0) -> Tensor:
    with seeded(5):
        return AdaptedProduct.apply(*tensors, product.maps, SCALING, dropout)  # type: ignore[return-value]


@pytest.mark.parametrize("product", PRODUCTS, ids=str)
def test_merging_pays__chooses_by_the_number_of_positions(product: Product) -> None:
    x, weight, *_ = product.tensors()
    assert merging_pays(product.maps, x, weight) == product.merges
    assert not merging_pays(product.maps, x, weight.bfloat16())


@both_drops
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("product", PRODUCTS, ids=str)
def test_product__and_its_gradients_equal_the_textbook(product: Product, bias: bool, dropout: float) -> None:
    ours, theirs = product.tensors(bias), product.tensors(bias)
    y = _apply(product, ours, dropout)
    with seeded(5):
        expected = product.expected(*theirs, dropout)
    assert_close(y, expected)
    direction = torch.randn_like(y)
    y.backward(direction)
    expected.backward(direction)
    for mine, other in zip(ours, theirs, strict=True):
        if mine is not None and mine.requires_grad:
            assert_close(mine.grad, other.grad)
    assert ours[1].grad is None


@pytest.mark.parametrize("wanted", [(0,), (3,), (4,), (3, 4), (0, 3), (2,)], ids=str)
@pytest.mark.parametrize("name", ["linear_few", "linear_many", "convolution_few", "convolution_many"])
def test_product__gives_exactly_the_gradients_that_are_asked_for(name: str, wanted: tuple[int, ...]) -> None:
    product = next(p for p in PRODUCTS if p.name == name)
    ours, theirs = product.tensors(), product.tensors()
    for tensors in (ours, theirs):
        for i in (0, 2, 3, 4):
            tensors[i].requires_grad_(i in wanted)
    _apply(product, ours).square().sum().backward()
    product.expected(*theirs, 0.0).square().sum().backward()
    for i in (0, 2, 3, 4):
        if i in wanted:
            assert_close(ours[i].grad, theirs[i].grad)
        else:
            assert ours[i].grad is None


@pytest.mark.parametrize("layout", ["expanded", "transposed", "channels_last", "sliced"])
@pytest.mark.parametrize("product", [p for p in PRODUCTS if len(p.x) == 4], ids=str)
def test_product__takes_gradients_in_any_memory_layout(product: Product, layout: str) -> None:
    ours, theirs = product.tensors(), product.tensors()
    y, expected = _apply(product, ours), product.expected(*theirs, 0.0)
    direction = {
        "expanded": lambda: torch.randn((), dtype=y.dtype).expand(y.shape),
        "transposed": lambda: torch.randn(y.shape[::-1], dtype=y.dtype).permute(3, 2, 1, 0),
        "channels_last": lambda: torch.randn_like(y).contiguous(memory_format=torch.channels_last),
        "sliced": lambda: torch.randn(*y.shape, 2, dtype=y.dtype)[..., 0],
    }[layout]()
    y.backward(direction)
    expected.backward(direction)
    for i in (0, 2, 3, 4):
        assert_close(ours[i].grad, theirs[i].grad)


@both_drops
@pytest.mark.parametrize("product", PRODUCTS, ids=str)
def test_product__passes_gradcheck_and_gradgradcheck(product: Product, dropout: float) -> None:
    tensors = product.tensors()

    def function(x: Tensor, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _apply(product, [x, tensors[1], bias, a, b], dropout)

    inputs = (tensors[0], *tensors[2:])
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["linear_few", "linear_many", "pointwise_many", "convolution_many", "transposed"])
def test_product__double_backward_equals_the_textbook(name: str) -> None:
    product = next(p for p in PRODUCTS if p.name == name)
    second = []
    for make in (lambda t: _apply(product, t), lambda t: product.expected(*t, 0.0)):
        tensors = product.tensors()
        wanted = [tensors[i] for i in (0, 3, 4)]
        gradients = torch.autograd.grad(make(tensors).square().sum(), wanted, create_graph=True)
        second.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), wanted))
    for ours, theirs in zip(*second, strict=True):
        assert_close(ours, theirs)


def test_product__keeps_its_inputs_and_can_be_differentiated_again() -> None:
    product = PRODUCTS[0]
    tensors = product.tensors()
    copies = [t.detach().clone() for t in tensors]
    y = _apply(product, tensors, 0.4)
    first = torch.autograd.grad(y.sum(), tensors[3], retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y.sum(), tensors[3])[0], first)
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))


def test_product__jacobian_in_one_batch_of_gradients() -> None:
    for product in (PRODUCTS[0], PRODUCTS[1]):
        x, weight, bias, a, b = (t.detach() for t in product.tensors())
        ours = torch.autograd.functional.jacobian(
            lambda a, p=product, r=(x, weight, bias), b=b: _apply(p, [*r, a, b]), a, vectorize=True
        )
        theirs = torch.autograd.functional.jacobian(
            lambda a, p=product, r=(x, weight, bias), b=b: p.expected(*r, a, b, 0.0), a
        )
        assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2), (4, 3, 2, 5)], ids=str)
def test_compose__is_the_product_of_the_factors_as_a_weight(shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape[1:]), torch.randn(4, 2, *[1] * (len(shape) - 2))
    weight = torch.randn(shape)
    expected = 0.5 * torch.einsum("or,r...->o...", b.flatten(1), a)
    torch.testing.assert_close(compose(a, b, weight, 0.5), expected)
    torch.testing.assert_close(compose(a, b, weight, 0.5, onto=weight), weight + expected)
