"""The wrapper that people hold: modes, batch norms, switches, and what passes through to the base."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lora.reference import draw
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import AdapterError, PeftWarning


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))

    def describe(self) -> str:
        return "a net"


def _adapted(base: nn.Module | None = None, **options: Any) -> PeftModel:
    return get_peft_model(base or Net(), LoraConfig(**{"r": 2, "target_modules": ["body.0", "body.3"], **options}))


def _statistics(norm: nn.Module) -> list[Tensor]:
    return [norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone()]


def _same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


X = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(1)) + 3


# --- batch norms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["trained", "evaluated"])
def test_frozen_batch_norm__keeps_its_statistics_and_uses_them(training: bool) -> None:
    base = Net().train(training)
    base(X)
    before = _statistics(base.body[1])
    model = _adapted(base)
    expected = copy.deepcopy(base).eval()(X)
    for _ in range(2):
        torch.testing.assert_close(model(X), expected)
        model.train()
    assert _same(_statistics(base.body[1]), before)
    assert not base.body[1].training
    assert base.body[0].training


def test_frozen_batch_norm__in_a_module_that_is_saved_whole_learns_in_the_copy_alone() -> None:
    model = _adapted(modules_to_save=["head"]).train()
    wrapper = model.base_model.model.head
    original, trained = _statistics(wrapper.original_module[0]), _statistics(wrapper.modules_to_save["default"][0])
    model(X)
    assert _same(_statistics(wrapper.original_module[0]), original)
    assert not _same(_statistics(wrapper.modules_to_save["default"][0]), trained)
    with model.disable_adapter():
        model(X)
    assert _same(_statistics(wrapper.original_module[0]), original)


def test_saved_batch_norm__moves_and_travels_with_the_adapter(tmp_path: Path) -> None:
    base = Net()
    start = copy.deepcopy(base.state_dict())
    model = _adapted(base, batch_norm="saved", modules_to_save=["head"]).train()
    draw(model)
    before = _statistics(base.body[1])
    for _ in range(3):
        model(X)
    assert not _same(_statistics(base.body[1]), before)
    model.eval()
    expected = model(X)
    model.save_pretrained(tmp_path)
    fresh = Net()
    fresh.load_state_dict(start)
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert loaded.peft_config["default"].batch_norm == "saved"
    assert _same(_statistics(fresh.body[1]), _statistics(base.body[1]))
    assert torch.equal(loaded(X), expected)


def test_frozen_batch_norm__is_not_in_the_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    _adapted().save_pretrained(tmp_path)
    assert not any("running" in key for key in load_file(tmp_path / "adapter_model.safetensors"))


def test_second_adapter__that_saves_batch_norms_lets_them_move() -> None:
    model = _adapted().train()
    norm = model.base_model.model.body[1]
    model.add_adapter("second", LoraConfig(r=2, target_modules=["body.0"], batch_norm="saved"))
    model.train()
    assert norm.training


@pytest.mark.parametrize("batch_norm", ["frozen", "saved"])
def test_norm_without_statistics__is_left_alone(batch_norm: str, tmp_path: Path) -> None:
    base = Net()
    base.body[1] = nn.BatchNorm2d(8, track_running_stats=False)
    model = _adapted(base, batch_norm=batch_norm).train()
    assert base.body[1].training
    model.save_pretrained(tmp_path)
    fresh = Net()
    fresh.body[1] = nn.BatchNorm2d(8, track_running_stats=False)
    PeftModel.from_pretrained(fresh, tmp_path)


# --- modes and switches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False])
def test_wrapping__does_not_change_the_mode_of_any_module(mode: bool) -> None:
    base = Net().train(mode)
    base.body[3].eval()
    model = _adapted(base)
    assert model.training is mode
    assert base.training is mode
    assert not base.body[3].training
    assert base.body[0].training is mode


def test_disable_adapter__gives_the_base_with_its_own_head() -> None:
    base = Net().eval()
    expected = base(X)
    model = _adapted(base, modules_to_save=["head"])
    draw(model)
    with torch.no_grad():
        base.head.modules_to_save["default"][1].weight.normal_()
    adapted = model(X)
    assert not torch.allclose(adapted, expected)
    with model.disable_adapter():
        assert torch.equal(model(X), expected)
        with model.disable_adapter():
            assert torch.equal(model(X), expected)
        assert torch.equal(model(X), expected)
    assert torch.equal(model(X), adapted)


def test_disable_adapter__ends_when_something_goes_wrong_inside() -> None:
    model = _adapted().eval()
    draw(model)
    expected = model(X)
    with pytest.raises(RuntimeError), model.disable_adapter():
        raise RuntimeError
    assert torch.equal(model(X), expected)


def test_disable_adapter__warns_of_biases_that_stay_changed() -> None:
    model = _adapted(bias="all")
    with pytest.warns(PeftWarning, match="bias='all'"), model.disable_adapter():
        pass


def test_disable_adapter_layers__lasts_until_they_are_enabled() -> None:
    base = Net().eval()
    expected = base(X)
    model = _adapted(base)
    draw(model)
    adapted = model(X)
    model.base_model.disable_adapter_layers()
    assert torch.equal(model(X), expected)
    model.base_model.enable_adapter_layers()
    assert torch.equal(model(X), adapted)


def test_two_heads__cannot_be_active_together() -> None:
    model = _adapted(modules_to_save=["head"])
    model.add_adapter("second", LoraConfig(r=2, target_modules=["body.0"], modules_to_save=["head"]))
    model.add_adapter("third", LoraConfig(r=2, target_modules=["body.0"]))
    before = model.active_adapters
    with pytest.raises(AdapterError, match=r"\['default', 'second'\] each bring their own Sequential"):
        model.base_model.set_adapter(["default", "second"])
    assert model.active_adapters == before
    model.base_model.set_adapter(["third", "default"])
    assert set(model.active_adapters) == {"third", "default"}


# --- reading ---------------------------------------------------------------------------------------------------------


def test_unknown_attributes__are_the_bases() -> None:
    base = Net()
    model = _adapted(base)
    assert model.describe() == "a net"
    assert model.head is base.head
    assert model.get_base_model() is base
    assert model.base_model.model is base
    with pytest.raises(AttributeError):
        _ = model.nothing_of_that_name


def test_print_trainable_parameters__counts_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    model = _adapted(modules_to_save=["head"])
    lora = (2 * 3 * 9 + 8 * 2) + (2 * 8 * 9 + 8 * 2)
    head = 16 + 8 * 2 + 2
    base = sum(p.numel() for p in Net().parameters())
    assert model.get_nb_trainable_parameters() == (lora + head, base + lora + head)
    model.print_trainable_parameters()
    percent = 100 * (lora + head) / (base + lora + head)
    assert capsys.readouterr().out == (
        f"trainable params: {lora + head:,} || all params: {base + lora + head:,} || trainable%: {percent:.4f}\n"
    )


def test_names_of_parameters__are_those_that_tools_look_for() -> None:
    model = _adapted(modules_to_save=["head"], use_dora=True)
    names = set(dict(model.named_parameters()))
    start = "base_model.model."
    for expected in (
        "body.0.base_layer.weight",
        "body.0.base_layer.bias",
        "body.0.lora_A.default.weight",
        "body.0.lora_B.default.weight",
        "body.0.lora_magnitude_vector.default.weight",
        "head.original_module.1.weight",
        "head.modules_to_save.default.1.weight",
    ):
        assert start + expected in names


def test_state_dict__can_be_loaded_into_a_model_made_the_same_way() -> None:
    model, other = _adapted(modules_to_save=["head"]), _adapted(modules_to_save=["head"])
    draw(model)
    other.load_state_dict(model.state_dict())
    model.eval(), other.eval()
    assert torch.equal(model(X), other(X))


def test_pickle__of_a_configuration_and_of_a_whole_model(tmp_path: Path) -> None:
    model = _adapted(modules_to_save=["head"]).eval()
    draw(model)
    config = model.peft_config["default"]
    assert pickle.loads(pickle.dumps(config)) == config
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded(X), model(X))


def test_moving_the_model__moves_everything_and_back() -> None:
    model = _adapted(use_dora=True, modules_to_save=["head"]).eval()
    draw(model)
    expected = model(X)
    model.double()
    torch.testing.assert_close(model(X.double()).float(), expected, rtol=1e-4, atol=1e-4)
    assert all(p.dtype == torch.float64 for p in model.parameters())
    model.to("meta")
    assert all(p.device.type == "meta" for p in model.parameters())


def test_training__changes_adapters_and_head_only() -> None:
    model = _adapted(modules_to_save=["head"], lora_dropout=0.1).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n, p in model.named_parameters() if p.requires_grad}
    assert changed == {n for n in before if "lora_" in n or "modules_to_save" in n}


def test_mixed__is_refused() -> None:
    with pytest.raises(AdapterError, match="mixed"):
        get_peft_model(Net(), LoraConfig(target_modules=["body.0"]), mixed=True)


def test_strength__is_not_saved_and_is_back_at_one_after_loading(tmp_path: Path) -> None:
    base = Net().eval()
    start = copy.deepcopy(base.state_dict())
    model = _adapted(base)
    draw(model)
    expected = model(X)
    model.set_strength("default", 0.25)
    assert not torch.allclose(model(X), expected)
    model.save_pretrained(tmp_path)
    fresh = Net().eval()
    fresh.load_state_dict(start)
    assert torch.equal(PeftModel.from_pretrained(fresh, tmp_path)(X), expected)
