from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lumora.errors import AdapterError, AdapterKeyError, AdapterShapeError, UnknownAdapterError
from lumora.lora import (
    LoraConfig,
    PeftModel,
    get_base_model_state_dict,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_base_model_state_dict,
    set_peft_model_state_dict,
)

PREFIX = "base_model.model."


def base() -> nn.Sequential:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, batch_first=True)
    return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), attention, nn.Linear(6, 3))


def config(**options: Any) -> LoraConfig:
    return LoraConfig(**{"r": 2, "target_modules": ["0", "2"], "init_lora_weights": False, **options})


def adapted(seed: int = 1, **options: Any) -> PeftModel:
    torch.manual_seed(seed)
    return get_peft_model(base(), config(**options))


def injected(seed: int = 1, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return inject_adapter_in_model(config(**options), base())


def test_get__returns_what_is_saved(tmp_path: Path) -> None:
    model = adapted(modules_to_save=["3"], bias="all")
    model.save_pretrained(tmp_path)
    state, file = get_peft_model_state_dict(model), load_file(tmp_path / "adapter_model.safetensors")
    assert state.keys() == file.keys()
    assert all(torch.equal(state[key], value) for key, value in file.items())


def test_get__leaves_out_the_name_of_the_adapter() -> None:
    model = adapted()
    model.add_adapter("other", config(target_modules=["0"]))
    assert set(get_peft_model_state_dict(model, adapter_name="other")) == {
        f"{PREFIX}0.lora_A.weight",
        f"{PREFIX}0.lora_B.weight",
    }


def test_get_from_an_injected_model__has_the_models_own_paths() -> None:
    assert set(get_peft_model_state_dict(injected(target_modules=["0"]))) == {"0.lora_A.weight", "0.lora_B.weight"}
    assert set(get_peft_model_state_dict(adapted(target_modules=["0"]).base_model)) == {
        "model.0.lora_A.weight",
        "model.0.lora_B.weight",
    }


def test_get_from_a_compiled_model__does_not_speak_of_compiling() -> None:
    model = adapted()
    assert set(get_peft_model_state_dict(torch.compile(model))) == set(get_peft_model_state_dict(model))  # type: ignore[arg-type]


def test_get_out_of_a_given_state_dict__takes_the_values_there() -> None:
    model = adapted(modules_to_save=["3"])
    doubled = {key: value * 2 for key, value in model.state_dict().items()}
    state = get_peft_model_state_dict(model, doubled)
    for key, value in get_peft_model_state_dict(model).items():
        torch.testing.assert_close(state[key], value * 2, rtol=0, atol=0)


@pytest.mark.parametrize("make", [adapted, injected])
def test_set__gives_the_outputs_of_the_adapter_it_came_from(make: Any) -> None:
    source, model = make(seed=1, modules_to_save=["3"]), make(seed=2, modules_to_save=["3"])
    result = set_peft_model_state_dict(model, get_peft_model_state_dict(source))
    assert result.missing_keys == []
    assert result.unexpected_keys == []
    for key, value in get_peft_model_state_dict(source).items():
        assert torch.equal(get_peft_model_state_dict(model)[key], value)


def test_set__takes_keys_with_and_without_prefix() -> None:
    state = get_peft_model_state_dict(injected(seed=3))
    model, other = adapted(seed=4), injected(seed=5)
    set_peft_model_state_dict(model, state)
    set_peft_model_state_dict(other, get_peft_model_state_dict(model))
    for key, value in state.items():
        assert torch.equal(get_peft_model_state_dict(other)[key], value)


def test_set__says_what_was_missing_and_what_was_left_over() -> None:
    model = adapted()
    state = dict(get_peft_model_state_dict(model))
    del state[f"{PREFIX}0.lora_A.weight"]
    state["nowhere.lora_A.weight"] = torch.zeros(1)
    with pytest.warns(UserWarning, match=r"0\.lora_A"):
        result = set_peft_model_state_dict(model, state)
    assert result.missing_keys == [f"{PREFIX}0.lora_A.default.weight"]
    assert result.unexpected_keys == ["nowhere.lora_A.weight"]


def test_set_of_another_size__loads_nothing_unless_it_is_asked_to_leave_that_out() -> None:
    model = adapted()
    before = copy.deepcopy(model.state_dict())
    state = {key: value + 1 for key, value in get_peft_model_state_dict(model).items()}
    state[f"{PREFIX}0.lora_A.weight"] = torch.zeros(3, 6)
    with pytest.raises(AdapterShapeError, match=r"0\.lora_A"):
        set_peft_model_state_dict(model, state)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with pytest.warns(UserWarning, match=r"0\.lora_A"):
        result = set_peft_model_state_dict(model, state, ignore_mismatched_sizes=True)
    assert result.missing_keys == [f"{PREFIX}0.lora_A.default.weight"]
    now = get_peft_model_state_dict(model)
    assert torch.equal(now[f"{PREFIX}0.lora_B.weight"], state[f"{PREFIX}0.lora_B.weight"])


def test_set_into_factors_without_storage__gives_them_storage() -> None:
    state = get_peft_model_state_dict(adapted(seed=3))
    model = get_peft_model(base(), config(), low_cpu_mem_usage=True)
    set_peft_model_state_dict(model, state, low_cpu_mem_usage=True)
    assert not any(p.is_meta for p in model.parameters())
    assert all(torch.equal(value, state[key]) for key, value in get_peft_model_state_dict(model).items())


@pytest.mark.parametrize("call", [get_peft_model_state_dict, lambda m, **k: set_peft_model_state_dict(m, {}, **k)])
def test_unknown_adapter__is_named(call: Any) -> None:
    with pytest.raises(UnknownAdapterError, match=r"'zzz'.*default"):
        call(adapted(), adapter_name="zzz")
    with pytest.raises(UnknownAdapterError):
        call(base())


@pytest.mark.parametrize("make", [adapted, injected])
def test_base_state_dict__is_that_of_the_bare_model(make: Any) -> None:
    expected = base().state_dict()
    model = make(modules_to_save=["3"], bias="all")
    state = get_base_model_state_dict(model)
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_set_base_state_dict__moves_the_base_and_nothing_else() -> None:
    model = adapted(modules_to_save=["3"])
    adapters = copy.deepcopy(get_peft_model_state_dict(model))
    moved = {key: value + 1 for key, value in base().state_dict().items()}
    result = set_base_model_state_dict(model, moved)
    assert result.missing_keys == result.unexpected_keys == []
    assert all(torch.equal(value, moved[key]) for key, value in get_base_model_state_dict(model).items())
    assert all(torch.equal(value, adapters[key]) for key, value in get_peft_model_state_dict(model).items())


def test_set_base_state_dict_that_does_not_fit__is_refused_or_reported() -> None:
    model = adapted()
    state = {key: value + 1 for key, value in base().state_dict().items()}
    missing = state.pop("0.weight")
    state["nowhere"] = missing
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(AdapterKeyError, match=r"0\.weight.*nowhere"):
        set_base_model_state_dict(model, state)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    result = set_base_model_state_dict(model, state, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["0.weight"], ["nowhere"])
    assert torch.equal(get_base_model_state_dict(model)["0.bias"], state["0.bias"])


def test_set_base_state_dict_while_merged__is_refused() -> None:
    model = adapted()
    model.merge_adapter()
    with pytest.raises(AdapterError, match="merged"):
        set_base_model_state_dict(model, base().state_dict())
