from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lumora.errors import AdapterError, TargetError
from lumora.lora import LoraConfig, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from lumora.lora.functional import (
    cast_adapter_dtype,
    check_if_peft_model,
    delete_adapter,
    disable_input_dtype_casting,
    get_submodules,
    infer_device,
    rescale_adapter_scale,
    set_adapter,
    set_requires_grad,
)


def base() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 3))


def config(**options: Any) -> LoraConfig:
    return LoraConfig(**{"r": 2, "target_modules": ["0", "2"], "init_lora_weights": False, **options})


def injected(**options: Any) -> Any:
    return inject_adapter_in_model(config(**options), base())


def test_inject__returns_the_model_itself_with_its_methods_and_paths() -> None:
    model = base()
    assert inject_adapter_in_model(config(modules_to_save=["3"]), model) is model
    assert type(model) is nn.Sequential
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == {
        *(f"{i}.lora_{factor}.default.weight" for i in (0, 2) for factor in "AB"),
        *(f"3.modules_to_save.default.{name}" for name in ("weight", "bias")),
    }


def test_inject__computes_what_get_peft_model_computes() -> None:
    x = torch.randn(3, 6)
    torch.manual_seed(1)
    model = inject_adapter_in_model(config(), base())
    torch.manual_seed(1)
    assert torch.equal(model(x), get_peft_model(base(), config())(x))


def test_inject_a_second_adapter__makes_it_the_active_one() -> None:
    model = injected()
    inject_adapter_in_model(config(target_modules=["2"]), model, "second")
    assert model[0].active_adapters == []
    assert model[2].active_adapters == ["second"]
    assert list(model.peft_config) == ["default", "second"]


def test_inject_by_state_dict__adapts_the_layers_that_it_has() -> None:
    attention = nn.Sequential(nn.MultiheadAttention(6, 2), nn.Linear(6, 6), nn.Embedding(3, 6))
    state = get_peft_model_state_dict(
        get_peft_model(attention, LoraConfig(r=2, target_modules=["0", "2"]), low_cpu_mem_usage=True)
    )
    fresh = nn.Sequential(nn.MultiheadAttention(6, 2), nn.Linear(6, 6), nn.Embedding(3, 6))
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["1"]), fresh, state_dict=state)
    assert fresh.peft_config["default"].target_modules == {"0", "2"}  # type: ignore[index]
    assert type(fresh[1]) is nn.Linear
    with pytest.raises(AdapterError, match="no factors"):
        inject_adapter_in_model(config(), base(), state_dict={})
    with pytest.raises(TargetError, match="nowhere"):
        inject_adapter_in_model(config(), base(), state_dict={"nowhere.lora_A.weight": torch.zeros(2, 2)})


def test_set_adapter__activates_exactly_these() -> None:
    model = injected()
    inject_adapter_in_model(config(target_modules=["2"]), model, "second")
    set_adapter(model, "default")
    assert (model[0].active_adapters, model[2].active_adapters) == (["default"], ["default"])
    assert not model[2].lora_A["second"].weight.requires_grad
    set_adapter(model, ["default", "second"], inference_mode=True)
    assert model[2].active_adapters == ["default", "second"]
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(AdapterError, match="'zzz'"):
        set_adapter(model, "zzz")


def test_delete_adapter__says_which_are_active_now() -> None:
    model = injected()
    inject_adapter_in_model(config(target_modules=["2"]), model, "second")
    assert delete_adapter(model, "second") == ["default"]
    assert list(model[2].lora_A) == ["default"]
    assert list(model.peft_config) == ["default"]
    assert delete_adapter(model, "default", prefix="lora_") is None
    x = torch.randn(3, 6)
    assert torch.equal(model(x), base()(x))


def test_delete_adapter__needs_one_that_is_there_and_not_merged() -> None:
    model = injected()
    with pytest.raises(AdapterError, match="'zzz'"):
        delete_adapter(model, "zzz")
    model[0].merge()
    with pytest.raises(AdapterError, match="merged"):
        delete_adapter(model, "default")
    assert list(model[2].adapters) == ["default"]


def test_set_requires_grad__acts_on_the_named_adapters_only() -> None:
    model = injected()
    inject_adapter_in_model(config(target_modules=["2"]), model, "second")
    set_requires_grad(model, ["default", "second"], False)
    assert not any(p.requires_grad for p in model.parameters())
    set_requires_grad(model, "default")
    assert model[2].lora_A["default"].weight.requires_grad
    assert not model[2].lora_A["second"].weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cast_adapter_dtype__widens_16_bit_factors(dtype: torch.dtype) -> None:
    model = injected().to(dtype)
    cast_adapter_dtype(model, "default", autocast_adapter_dtype=False)
    assert model[0].lora_A["default"].weight.dtype == dtype
    cast_adapter_dtype(model, "default")
    assert model[0].lora_A["default"].weight.dtype == torch.float32
    assert model[0].base_layer.weight.dtype == dtype


def test_rescale__scales_the_update_inside_and_puts_it_back() -> None:
    x, model = torch.randn(3, 6), get_peft_model(base(), config(target_modules=["3"]))
    plain, full = base()(x), model(x)
    for multiplier in (0.0, 0.5, 2):
        with rescale_adapter_scale(model, multiplier):
            torch.testing.assert_close(model(x), plain + multiplier * (full - plain), rtol=0, atol=1e-5)
    assert torch.equal(model(x), full)
    with pytest.raises(KeyError), rescale_adapter_scale(model, 3.0):
        raise KeyError
    assert torch.equal(model(x), full)


def test_rescale__wants_a_number_and_adapters() -> None:
    with pytest.raises(TypeError), rescale_adapter_scale(injected(), "2"):  # type: ignore[arg-type]
        pass
    with pytest.raises(AdapterError), rescale_adapter_scale(base(), 2.0):
        pass


def test_check_if_peft_model__knows_an_adapters_folder(tmp_path: Path) -> None:
    assert not check_if_peft_model(tmp_path)
    get_peft_model(base(), config()).save_pretrained(tmp_path)
    assert check_if_peft_model(tmp_path)
    assert check_if_peft_model(str(tmp_path))


def test_disable_input_dtype_casting__changes_nothing() -> None:
    x, model = torch.randn(3, 6), injected()
    expected = model(x)
    with disable_input_dtype_casting(model), disable_input_dtype_casting(model, active=False):
        assert torch.equal(model(x), expected)


def test_get_submodules__returns_parent_module_and_name() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    assert get_submodules(model, "0.0") == (model[0], model[0][0], "0")
    assert get_submodules(model, "0") == (model, model[0], "0")


def test_infer_device__names_a_device_that_tensors_can_be_on() -> None:
    assert torch.zeros(1, device=infer_device()).device.type == infer_device()
