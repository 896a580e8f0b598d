"""Against torch's own ReLU and dropout, with the same draws."""

import pytest
import torch
from torch import nn

from lumora.ops.rectified import rectified_and_dropped


def both(x, p, activation=None, *, training=True):
    """Result, gradient and the state of the random numbers after it: plain, and ours."""
    for compute in (lambda x, a, d: d(a(x)), rectified_and_dropped):
        torch.manual_seed(7)
        leaf = x.clone().requires_grad_()
        result = compute(leaf, activation or nn.ReLU(), nn.Dropout(p).train(training))
        (gradient,) = torch.autograd.grad(result, leaf, torch.linspace(-1, 2, x.numel()).view_as(x).to(x))
        yield result.detach(), gradient, torch.get_rng_state()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_rectified_and_dropped__gives_the_same_values_gradients_and_draws(p, training, dtype):
    x = torch.randn(3, 5, 7, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0, 0, :2] = torch.tensor([0.0, -0.0])
    plain, ours = both(x, p, training=training)
    for theirs, own in zip(plain, ours, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-6 if dtype != torch.bfloat16 else 1e-2, atol=0)


def test_rectified_and_dropped__of_another_activation_is_the_plain_one():
    plain, ours = both(torch.randn(4, 9), 0.3, nn.GELU())
    assert all(map(torch.equal, plain, ours))


def test_rectified_and_dropped__gradcheck_twice():
    x = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()

    def work(x):
        torch.manual_seed(3)
        return rectified_and_dropped(x, nn.ReLU(), nn.Dropout(0.4))

    assert torch.autograd.gradcheck(work, x)
    assert torch.autograd.gradgradcheck(work, x)


def test_rectified_and_dropped__keeps_its_result_alone():
    kept = []

    def keep(tensor):
        kept.append(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = rectified_and_dropped(torch.randn(5, 8, requires_grad=True), nn.ReLU(), nn.Dropout(0.1))
    assert kept == [result.untyped_storage().data_ptr()]


@pytest.mark.parametrize("which", [0, 1])
def test_rectified_and_dropped__calls_what_somebody_watches(which):
    modules, seen = (nn.ReLU(), nn.Dropout(0.1)), []
    modules[which].register_forward_hook(lambda *_: seen.append(which))
    rectified_and_dropped(torch.randn(5, 8, requires_grad=True), *modules)
    assert seen == [which]


def test_rectified_and_dropped__works_in_torch_func():
    x = torch.randn(3, 6)
    torch.manual_seed(5)
    expected = nn.functional.dropout(x.relu(), 0.5)
    torch.manual_seed(5)
    gradient = torch.func.grad(lambda x: rectified_and_dropped(x, nn.ReLU(), nn.Dropout(0.5)).sum())(x)
    assert torch.equal(gradient, (expected > 0) * 2.0)
