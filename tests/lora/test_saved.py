"""Modules that are trained whole and saved with an adapter."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import AdapterError, RoutingError
from lumora.lora.saved import AuxiliaryTrainingWrapper, ModulesToSaveWrapper


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.head = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


CONFIG = LoraConfig(r=2, target_modules=["body"], modules_to_save=["head"])


def _two() -> tuple[PeftModel, ModulesToSaveWrapper]:
    model = get_peft_model(Net(), CONFIG)
    model.add_adapter("second", CONFIG)
    wrapper = model.base_model.model.head
    with torch.no_grad():
        for copy_ in wrapper.modules_to_save.values():
            copy_[1].weight.normal_()
    return model.eval(), wrapper


def test_copy__starts_as_the_original_and_shares_nothing_with_it() -> None:
    base = Net()
    original = base.head
    model = get_peft_model(base, CONFIG)
    wrapper = model.base_model.model.head
    assert isinstance(wrapper, AuxiliaryTrainingWrapper)
    assert wrapper.original_module is original
    trained = wrapper.modules_to_save["default"]
    for ours, theirs in zip(trained.state_dict().values(), original.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
    assert all(p.requires_grad for p in trained.parameters())
    assert not any(p.requires_grad for p in original.parameters())


def test_set_adapter__switches_the_copy_and_what_is_trained() -> None:
    model, wrapper = _two()
    x = torch.randn(3, 4)
    for name, other in (("default", "second"), ("second", "default")):
        model.set_adapter(name)
        assert wrapper.active_adapter == name
        assert wrapper.active_adapters == [name]
        assert torch.equal(model(x), wrapper.modules_to_save[name](model.base_model.model.body(x)))
        assert all(p.requires_grad for p in wrapper.modules_to_save[name].parameters())
        assert not any(p.requires_grad for p in wrapper.modules_to_save[other].parameters())


def test_adapter_without_a_copy__uses_the_original() -> None:
    model, wrapper = _two()
    model.add_adapter("third", LoraConfig(r=2, target_modules=["body"]))
    model.set_adapter("third")
    x = torch.randn(3, 4)
    assert torch.equal(model(x), wrapper.original_module(model.base_model.model.body(x)))
    assert wrapper.active_adapter is None


def test_attributes__are_those_of_the_copy_that_counts() -> None:
    linear = get_peft_model(nn.ModuleDict({"body": nn.Linear(4, 4), "head": nn.Linear(4, 2)}), CONFIG)
    head = linear.base_model.model["head"]
    assert head.weight is head.modules_to_save["default"].weight
    with linear.disable_adapter():
        assert head.weight is head.original_module.weight
    assert head.out_features == 2
    with pytest.raises(AttributeError):
        _ = head.nothing_of_that_name


def test_rename_and_delete__carry_the_copy_along() -> None:
    model, wrapper = _two()
    kept = wrapper.modules_to_save["second"]
    model.set_adapter("second")
    model.base_model.rename_adapter("second", "renamed")
    assert wrapper.active_adapter == "renamed"
    assert wrapper.modules_to_save["renamed"] is kept
    model.delete_adapter("default")
    assert list(wrapper.modules_to_save) == ["renamed"]


def test_hooks_of_the_original__run_in_the_copy() -> None:
    base, calls = Net(), []
    base.head.register_forward_hook(lambda *_: calls.append(1))
    get_peft_model(base, CONFIG)(torch.randn(3, 4))
    assert calls == [1]


def test_buffers_of_the_copy__are_saved_and_loaded(tmp_path: Path) -> None:
    base = Net()
    start = copy.deepcopy(base.state_dict())
    model = get_peft_model(base, CONFIG).train()
    for _ in range(3):
        model(torch.randn(8, 4) + 5)
    model.save_pretrained(tmp_path)
    keys = load_file(tmp_path / "adapter_model.safetensors").keys()
    expected = {f"base_model.model.head.{k}" for k in base.head.original_module.state_dict()}
    assert expected <= set(keys)
    fresh = Net()
    fresh.load_state_dict(start)
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    x = torch.randn(3, 4)
    assert torch.equal(loaded(x), model.eval()(x))
    assert not any(p.requires_grad for p in loaded.parameters())


def test_keyword_arguments__reach_the_copy() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, *, features: Tensor, scale: float) -> Tensor:
            return self.layer(features) * scale

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 4), Head()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(features=self.body(x), scale=2.0)

    model = get_peft_model(Whole(), CONFIG).eval()
    x = torch.randn(3, 4)
    expected = model(x)
    with torch.no_grad():
        model.base_model.model.head.original_module.layer.weight.zero_()
    assert torch.equal(model(x), expected)
    torch.testing.assert_close(model(x, adapter_names=["default"] * 3), expected)


class Stages(nn.Module):
    """A model that walks through a list, and indexes a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.stages = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        for stage in self.stages:
            x = stage(x)
        assert len(self.stages) == 3
        assert self.head
        return self.head[0](x).sum(1) + self.head[-1](self.stages[1](x)).sum(1)


def test_containers__may_be_saved_and_are_walked_through(tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["body"], modules_to_save=["stages", "head"])
    base = Stages()
    start = copy.deepcopy(base.state_dict())
    x = torch.randn(3, 4)
    expected = base(x)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.normal_()
    trained = model(x)
    assert not torch.allclose(trained, expected)
    trained.sum().backward()
    assert all(base.stages.modules_to_save["default"][i].weight.grad is not None for i in range(3))
    assert all(p.grad is None for p in base.stages.original_module.parameters())
    with model.disable_adapter():
        assert torch.equal(model(x), expected)
    assert model.verify(x).ok
    model.save_pretrained(tmp_path)
    fresh = Stages()
    fresh.load_state_dict(start)
    assert torch.equal(PeftModel.from_pretrained(fresh, tmp_path)(x), trained)
    with pytest.raises(RoutingError, match="parts of a ModuleList"):
        model.eval()(x, adapter_names=["default", "default", "__base__"])


def test_integer_parameters__stay_without_gradient() -> None:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.arange(3), requires_grad=False)
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[:, self.table]

    model = get_peft_model(nn.ModuleDict({"body": nn.Linear(4, 4), "head": Lookup()}), CONFIG)
    trained = model.base_model.model["head"].modules_to_save["default"]
    assert trained.layer.weight.requires_grad
    assert not trained.table.requires_grad
    model.base_model.set_requires_grad("default", True)
    assert not trained.table.requires_grad


def test_two_copies_at_once__are_refused() -> None:
    model, _ = _two()
    with pytest.raises(AdapterError, match="only one of them can be active"):
        model.base_model.set_adapter(["default", "second"])
