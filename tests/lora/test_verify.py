"""Adapters that do not count are found and named; looking changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.lora.reference import KINDS, MODES, Case, Mode, adapted, draw
from tests.lora.snapshot import unchanged
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import AdapterError

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Two layers and a head, whose second step a test replaces."""

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(5)
        self.step = step or (lambda layer, x: layer(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(self.first(x)))
        return self.head(F.relu(self.step(self.second, x)) + x)


def _adapted(net: nn.Module, **options: Any) -> PeftModel:
    return get_peft_model(net, LoraConfig(**{"r": 2, "target_modules": ["first", "second"], **options}))


@pytest.mark.parametrize(
    ("case", "mode"), [pytest.param(c, m, id=f"{c}-{m}") for c in KINDS for m in MODES if m.fits(c)]
)
def test_verify__finds_every_kind_live(case: Case, mode: Mode) -> None:
    args, kwargs = case.call()
    model = adapted(case, mode)
    with unchanged(model):
        report = model.verify(*args, **kwargs)
    assert report.ok, str(report)
    assert bool(report)
    assert report.checked == (2 if "attention" in case.name else 1)
    assert list(report.not_mergeable) == ([] if case.mergeable else ["layer"])


def test_verify__of_fresh_adapters_and_a_saved_head_finds_all_live() -> None:
    model = _adapted(Net(), modules_to_save=["head"], lora_dropout=0.5)
    with unchanged(model):
        report = model.verify(X)
    assert str(report) == "3 modules checked: all adapters are live."


def test_verify__names_what_is_read_instead_of_called() -> None:
    model = _adapted(Net(lambda layer, x: x @ layer.weight.t() + layer.bias))
    report = model.verify(X)
    assert not report
    assert (report.not_reached, report.without_gradient, report.merge_differs) == (["second"], [], {})
    assert "NOT all adapters are live" in str(report)
    assert "not reached by the forward pass: second" in str(report)


def test_verify__names_what_gets_no_gradient() -> None:
    model = _adapted(Net(lambda layer, x: layer(x).detach()))
    report = model.verify(X)
    assert (report.not_reached, report.without_gradient, report.merge_differs) == ([], ["second"], {})
    assert "gets no gradient: second" in str(report)


def test_verify__names_what_runs_without_gradient() -> None:
    def step(layer: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            return layer(x)

    assert _adapted(Net(step)).verify(X).without_gradient == ["second"]


def test_verify__names_what_merges_to_something_else() -> None:
    """A hook that bends the base's output acts on the adapter too once it is merged."""
    net = Net()
    net.second.register_forward_hook(lambda _, __, y: y.tanh())
    report = _adapted(net).verify(X)
    assert (report.not_reached, report.without_gradient, list(report.merge_differs)) == ([], [], ["second"])
    assert report.merge_differs["second"] > 1e-3
    assert "merges to something else: second (off by" in str(report)


def test_verify__names_what_counts_for_nothing() -> None:
    model = _adapted(Net())
    model.base_model.model.second.set_strength("default", 0.0)
    assert model.verify(X).without_gradient == ["second"]


def test_verify__reports_what_cannot_be_merged_without_failing() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten())
    report = get_peft_model(net, LoraConfig(r=2, target_modules=["0"])).verify(torch.randn(1, 4, 5, 5))
    assert report.ok
    assert "2 groups" in report.not_mergeable["0"]
    assert "cannot be merged: 0: this convolution" in str(report)


def test_verify__says_that_a_bias_cannot_be_merged() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False))
    report = get_peft_model(net, LoraConfig(r=2, target_modules=["0"], lora_bias=True)).verify(torch.randn(2, 4))
    assert report.ok
    assert "lora_bias" in report.not_mergeable["0"]


def test_verify__counts_a_saved_module_whose_weight_is_read() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.prototypes = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(self.body(x)) @ F.normalize(self.prototypes.weight).t()

    model = get_peft_model(Tied(), LoraConfig(r=2, target_modules=["body"], modules_to_save=["prototypes"]))
    assert model.verify(X).ok


def test_verify__names_a_saved_module_that_is_not_used() -> None:
    net = Net()
    net.unused = nn.Linear(2, 2)
    assert _adapted(net, modules_to_save=["unused"]).verify(X).not_reached == ["unused"]


def test_verify__leaves_everything_as_it_was() -> None:
    """Gradients of a step that is under way, modes, hooks, random state, what is trained, and the sample."""
    net = Net()
    model = _adapted(net, modules_to_save=["head"], lora_dropout=0.5, bias="all")
    draw(model)
    net.first.base_layer.bias.requires_grad_(True)
    model.train()
    net.norm.eval()
    model(X).sum().backward()
    model.base_model.set_requires_grad("default", False)
    x = torch.randn(3, 4, requires_grad=True)
    with unchanged(model):
        assert model.verify(x).ok
    assert x.grad is None


def test_verify__leaves_everything_as_it_was_when_the_model_fails() -> None:
    def step(layer: nn.Module, x: Tensor) -> Tensor:
        layer(x)
        raise RuntimeError("broken")

    model = _adapted(Net(step))
    with unchanged(model), pytest.raises(RuntimeError, match="broken"):
        model.verify(X)


def test_verify__leaves_everything_as_it_was_when_it_finds_faults() -> None:
    model = _adapted(Net(lambda layer, x: layer(x).detach() + layer.weight.sum()))
    with unchanged(model):
        assert not model.verify(X)


def test_verify__looks_at_active_adapters() -> None:
    model = _adapted(Net(lambda layer, x: x))
    model.add_adapter("first_only", LoraConfig(r=2, target_modules=["first"]))
    assert model.verify(X).not_reached == ["second"]
    model.set_adapter("first_only")
    assert model.verify(X).ok


def test_verify__takes_keywords_and_nested_outputs() -> None:
    class Output(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, *, pixels: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
            return {"features": [self.layer(pixels)], "indices": pixels.argmax(), "nothing": None}

    model = get_peft_model(Output(), LoraConfig(r=2, target_modules=["layer"]))
    assert model.verify(pixels=torch.randn(2, 4)).ok


def test_verify__works_inside_no_grad() -> None:
    model = _adapted(Net())
    with torch.no_grad():
        assert model.verify(X).ok


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_verify__allows_for_half_precision(dtype: torch.dtype) -> None:
    model = _adapted(Net().to(dtype))
    draw(model)
    assert model.verify(torch.randn(8, 4, dtype=dtype)).ok


def test_verify__of_a_fixed_output_says_that_nothing_depends_on_the_adapters() -> None:
    class Constant(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    model = _adapted(Constant())
    with unchanged(model), pytest.raises(AdapterError, match="does not depend on anything trainable"):
        model.verify(X)


@pytest.mark.parametrize("state", ["merged", "disabled", "none active"])
def test_verify__of_adapters_that_are_switched_off_says_so(state: str) -> None:
    model = _adapted(Net())
    if state == "merged":
        model.merge_adapter()
    elif state == "disabled":
        model.base_model.disable_adapter_layers()
    else:
        model.base_model.set_adapter([])
    with unchanged(model), pytest.raises(AdapterError, match=r"merged or disabled|no active adapter"):
        model.verify(X)


def test_verify__sees_through_gradient_checkpointing() -> None:
    model = _adapted(Net(lambda layer, x: checkpoint(layer, x, use_reentrant=False)))
    assert model.verify(X).ok


def test_verify__finds_adapters_in_torchs_transformer_live() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = get_peft_model(nn.Sequential(layer), LoraConfig(r=2, target_modules=["self_attn", "linear1", "linear2"]))
    report = model.verify(torch.randn(2, 3, 8))
    assert report.ok, str(report)
    assert report.checked == 4
