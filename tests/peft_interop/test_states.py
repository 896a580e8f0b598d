"""State dicts, injection, optimizers and hot swapping beside peft's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.peft_interop.toolkit import (
    KINDS,
    LIBRARIES,
    adapted,
    mlp,
    module_of,
    other,
    perturb,
    quiet,
    sample_for,
    tiny,
)
from torch import nn

import lumora.peft


def injected(library: Any, kind: str = "Linear", seed: int = 1, **config: Any) -> Any:
    torch.manual_seed(seed)
    options = {"r": 2, "target_modules": ["layer"], "modules_to_save": ["head"], **config}
    with quiet():
        return library.inject_adapter_in_model(library.LoraConfig(**options), tiny(kind)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_injected_models__have_the_same_parameters_and_take_each_others_state(kind: str) -> None:
    theirs, ours = (injected(library, kind) for library in (peft, lumora.peft))
    described = [sorted((n, tuple(p.shape), p.requires_grad) for n, p in m.named_parameters()) for m in (theirs, ours)]
    assert described[1] == described[0]
    perturb(theirs)
    with quiet():
        result = lumora.peft.set_peft_model_state_dict(ours, peft.get_peft_model_state_dict(theirs))
    assert result.missing_keys == result.unexpected_keys == []
    x = sample_for(kind)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)
    perturb(ours, seed=9)
    with quiet():
        peft.set_peft_model_state_dict(theirs, lumora.peft.get_peft_model_state_dict(ours))
    torch.testing.assert_close(theirs(x), ours(x), rtol=0, atol=1e-6)


def test_missing_and_unexpected__are_those_of_peft_without_the_base() -> None:
    results: list[Any] = []
    for library in LIBRARIES.values():
        model = adapted(library, mlp(), r=2, target_modules=["0"])
        state = dict(library.get_peft_model_state_dict(model))
        del state["base_model.model.0.lora_A.weight"]
        state["foo.lora_A.weight"] = torch.zeros(1)
        with quiet():
            results.append(library.set_peft_model_state_dict(model, state))
    theirs, ours = results
    assert ours.missing_keys == [key for key in theirs.missing_keys if "lora_" in key]
    assert ours.unexpected_keys == theirs.unexpected_keys


@pytest.mark.parametrize("kind", ["Linear", "MultiheadAttention"])
def test_base_state_dicts__have_the_same_keys_and_values(kind: str) -> None:
    states: list[dict[str, torch.Tensor]] = []
    for library in LIBRARIES.values():
        model = adapted(library, tiny(kind), r=2, target_modules=["layer"], modules_to_save=["head"])
        states.append(library.get_base_model_state_dict(model))
    theirs, ours = states
    assert list(ours) == list(tiny(kind).state_dict())
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


def test_load_adapter__returns_what_peft_returns(tmp_path: Path) -> None:
    results: list[Any] = []
    adapted(peft, mlp(), r=2, target_modules=["0", "2"]).save_pretrained(tmp_path)
    for library in LIBRARIES.values():
        model = adapted(library, mlp(), r=2, target_modules=["0"])
        results.append(model.load_adapter(str(tmp_path), "second"))
        assert not any(p.requires_grad for n, p in model.named_parameters() if ".second" in n)
    assert results[1].unexpected_keys == results[0].unexpected_keys == []
    assert results[1].missing_keys == [key for key in results[0].missing_keys if "second" in key] == []


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.one = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.one(self.embed(x))))


@pytest.mark.parametrize(
    "config",
    [{}, {"bias": "all"}, {"use_dora": True, "target_modules": ["one"]}, {"modules_to_save": ["head", "norm"]}],
)
def test_loraplus__gives_every_parameter_the_rate_of_peft(config: dict[str, Any]) -> None:
    groups: list[dict[str, Any]] = []
    for library in LIBRARIES.values():
        torch.manual_seed(0)
        model = adapted(library, Mixed(), **{"r": 2, "target_modules": ["one", "embed"], **config})
        optimizer = module_of(library, "optimizers").create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0, loraplus_weight_decay=0.2
        )
        names = {id(p): n for n, p in model.named_parameters()}
        groups.append({names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]})
    assert groups[1] == groups[0]


def test_lorafa__takes_the_steps_of_peft() -> None:
    finals: list[dict[str, torch.Tensor]] = []
    for library in LIBRARIES.values():
        model = adapted(library, mlp(), r=2, target_modules=["0"], modules_to_save=["4"], init_lora_weights=False)
        optimizer = module_of(library, "optimizers").create_lorafa_optimizer(
            model, r=2, lora_alpha=8, lr=0.01, weight_decay=0.1
        )
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(3))
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        finals.append({n: p.detach() for n, p in model.named_parameters()})
    for name, value in finals[0].items():  # peft projects in bfloat16
        torch.testing.assert_close(finals[1][name], value, rtol=2e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_hotswap__reads_what_the_other_wrote(tmp_path: Path, kind: str, writer: Any) -> None:
    x = sample_for(kind)
    reader = other(writer)
    swap = module_of(reader, "utils.hotswap")
    new = adapted(writer, tiny(kind), seed=3, r=3, lora_alpha=5, target_modules=["layer"], init_lora_weights=False)
    new.save_pretrained(tmp_path)
    model = adapted(reader, tiny(kind), r=2, target_modules=["layer"], init_lora_weights=False)
    swap.prepare_model_for_compiled_hotswap(model, target_rank=4)
    swap.hotswap_adapter(model, str(tmp_path), adapter_name="default")
    torch.testing.assert_close(model(x), new(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_adapter_saved_after_room_was_made__loads_in_peft(tmp_path: Path, kind: str) -> None:
    x = sample_for(kind)
    model = adapted(lumora.peft, tiny(kind), r=2, target_modules=["layer"], init_lora_weights=False)
    module_of(lumora.peft, "utils.hotswap").prepare_model_for_compiled_hotswap(model, target_rank=8)
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny(kind), tmp_path)
    torch.testing.assert_close(theirs(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("multiplier", [0.0, 0.5, 2.0])
def test_rescale_adapter_scale__acts_as_in_peft(multiplier: float) -> None:
    results: list[torch.Tensor] = []
    x = sample_for("Linear")
    for library in LIBRARIES.values():
        model = adapted(library, tiny("Linear"), r=2, target_modules=["layer"], init_lora_weights=False)
        with module_of(library, "helpers").rescale_adapter_scale(model, multiplier):
            results.append(model(x))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-6)


def test_functional__leaves_the_same_adapters_active() -> None:
    states: list[Any] = []
    for library in LIBRARIES.values():
        functional = module_of(library, "functional")
        model = injected(library, modules_to_save=None)
        with quiet():
            library.inject_adapter_in_model(library.LoraConfig(r=2, target_modules=["layer"]), model, "second")
        seen = [list(model.one["layer"].active_adapters)]
        functional.set_adapter(model, "default")
        seen.append(list(model.one["layer"].active_adapters))
        functional.set_adapter(model, ["default", "second"])
        seen.append(list(model.one["layer"].active_adapters))
        functional.set_requires_grad(model, "second", False)
        seen.append(sorted(n for n, p in model.named_parameters() if p.requires_grad))
        seen.append(functional.delete_adapter(model, "second", prefix="lora_"))
        seen.append(list(model.one["layer"].lora_A))
        states.append(seen)
    assert states[1] == states[0]
