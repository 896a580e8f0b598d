"""The same seed gives the same starting factors in both libraries."""

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
    other,
    perturb,
    quiet,
    read_folder,
    sample_for,
    tiny,
)
from torch import nn

import lumora.peft

# Those that peft can do: none for convolutions and embeddings, and factors of wrong shapes for Conv1D with olora.
MATRIX_STARTS = [
    *(("Linear", start) for start in ("pissa", "olora", "orthogonal")),
    *(("Conv1D", start) for start in ("pissa", "orthogonal")),
]


def factors(library: Any, kind: str, **config: Any) -> dict[str, torch.Tensor]:
    model = adapted(library, tiny(kind), r=2, target_modules=["layer"], **config)
    with quiet():
        model.add_adapter("second", library.LoraConfig(r=4, target_modules=["layer"], **config))
    states = {name: library.get_peft_model_state_dict(model, adapter_name=name) for name in ("default", "second")}
    return {f"{name}: {key}": value for name, state in states.items() for key, value in state.items()}


@pytest.mark.parametrize("start", [True, False, "gaussian"])
@pytest.mark.parametrize("kind", KINDS)
def test_same_seed__gives_the_factors_that_peft_draws(kind: str, start: bool | str) -> None:
    theirs = factors(peft, kind, init_lora_weights=start)
    ours = factors(lumora.peft, kind, init_lora_weights=start)
    assert sorted(ours) == sorted(theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("kind", ["Linear", "Conv2d", "Conv1D"])
def test_same_seed__with_lora_bias(kind: str) -> None:
    theirs = factors(peft, kind, lora_bias=True)
    for key, value in factors(lumora.peft, kind, lora_bias=True).items():
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "MultiheadAttention"])
def test_dora__starts_with_the_magnitudes_of_peft(kind: str) -> None:
    theirs = factors(peft, kind, use_dora=True, init_lora_weights=False)
    ours = factors(lumora.peft, kind, use_dora=True, init_lora_weights=False)
    assert any("magnitude" in key for key in theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-6, atol=1e-6, msg=key)


@pytest.mark.parametrize(("kind", "start"), MATRIX_STARTS)
def test_starts_that_read_the_weight__agree_with_peft(kind: str, start: str) -> None:
    x, base = sample_for(kind), tiny(kind)
    models = [
        adapted(lib, tiny(kind), r=2, target_modules=["layer"], init_lora_weights=start) for lib in (peft, lumora.peft)
    ]
    for model in models:
        torch.testing.assert_close(model(x), base(x), rtol=0, atol=2e-6)
    for path in ("one", "two"):
        theirs, ours = (m.base_model.model.get_submodule(f"{path}.layer") for m in models)
        torch.testing.assert_close(ours.base_layer.weight, theirs.base_layer.weight, rtol=0, atol=2e-6)
        for factor in ("lora_A", "lora_B"):
            torch.testing.assert_close(
                getattr(ours, factor)["default"].weight, getattr(theirs, factor)["default"].weight, rtol=0, atol=2e-6
            )


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
def test_fast_pissa__takes_as_much_of_the_weight_as_that_of_peft(kind: str) -> None:
    """Not the same factors: peft's follow the seed, ours the weight alone, so that a saved adapter can be read back."""
    x, base = sample_for(kind), tiny(kind)
    left: dict[str, float] = {}
    for name, library in LIBRARIES.items():
        model = adapted(library, tiny(kind), r=2, target_modules=["layer"], init_lora_weights="pissa_niter_4")
        torch.testing.assert_close(model(x), base(x), rtol=0, atol=2e-6)
        layers = [model.base_model.model.get_submodule(f"{path}.layer") for path in ("one", "two")]
        left[name] = sum(float(layer.base_layer.weight.norm()) for layer in layers)
    theirs, ours = left.values()
    assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("variant", [{}, {"use_rslora": True}, {"rank_pattern": {"two.layer": 1}}], ids=str)
@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
def test_pissa_saved_relative_to_its_start__is_a_plain_adapter_for_the_other(
    tmp_path: Path, writer: Any, start: str, variant: dict[str, Any]
) -> None:
    x = sample_for("Linear")
    model = adapted(
        writer, tiny("Linear"), r=2, lora_alpha=3, target_modules=["layer"], init_lora_weights=start, **variant
    )
    with quiet():
        model.save_pretrained(tmp_path / "start")
        model.peft_config["default"].init_lora_weights = start  # peft 0.21 sets it to True while it saves
        perturb(model)
        expected = model(x)
        model.save_pretrained(tmp_path / "end", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
        again = other(writer).PeftModel.from_pretrained(tiny("Linear"), tmp_path / "end")
    config, tensors = read_folder(tmp_path / "end")
    assert config["r"] == 4
    assert tensors["base_model.model.one.layer.lora_A.weight"].shape == (4, 6)
    torch.testing.assert_close(again(x), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
def test_pissa_saved_as_it_is__loads_in_the_other(tmp_path: Path, writer: Any, start: str) -> None:
    x = torch.randn(3, 6)
    model = adapted(writer, mlp(), r=2, target_modules=["0", "2"], init_lora_weights=start)
    perturb(model)
    with quiet():
        model.save_pretrained(tmp_path)
        again = other(writer).PeftModel.from_pretrained(mlp(), tmp_path)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=2e-6)


def test_half_precision_base__gets_the_factors_that_peft_draws() -> None:
    for options in ({}, {"autocast_adapter_dtype": False}):
        states: list[dict[str, torch.Tensor]] = []
        for library in (peft, lumora.peft):
            base = nn.Sequential(nn.Linear(6, 5)).to(torch.bfloat16)
            torch.manual_seed(3)
            model = library.get_peft_model(base, library.LoraConfig(r=2, target_modules=["0"]), **options)
            states.append(library.get_peft_model_state_dict(model))
        for key, value in states[0].items():
            assert states[1][key].dtype == value.dtype
            # peft draws in 16 bits and widens, we draw in 32
            torch.testing.assert_close(states[1][key].bfloat16(), value.bfloat16(), rtol=0, atol=0, msg=key)
