"""Adapters that start from data: the directions of peft, and files that travel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.peft_interop.toolkit import LIBRARIES, other, perturb, quiet
from torch import Tensor, nn

import lumora.peft


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Linear(6, 5)
        self.two = nn.Linear(5, 5)
        self.three = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(torch.tanh(self.two(torch.tanh(self.one(x)))))


CLEAR = (5.0, 3.0, 2.0, 1.0, 0.5, 0.1)
THREE = (3.0, 3.0, 3.0, 0.1, 0.1, 0.1)
ONE = (5.0, 0.2, 0.1, 0.1, 0.1, 0.1)
EVEN = (1.0,) * 6


def batches(spread: tuple[float, ...] = THREE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(64, 6, generator=generator) * torch.tensor(spread) for _ in range(6)]


def call(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch)


def started(library: Any, rho: float, spread: tuple[float, ...] = THREE, **options: Any) -> Any:
    with quiet():
        config = library.LoraConfig(
            r=2,
            target_modules=["one", "two", "three"],
            init_lora_weights="eva",
            eva_config=library.EvaConfig(rho=rho, **options),
        )
        model = library.get_peft_model(Net(), config)
        library.initialize_lora_eva_weights(
            model,
            batches(spread),
            forward_fn=call,
            prepare_model_inputs_fn=None,
            prepare_layer_inputs_fn=None,
            show_progress_bar=False,
        )
    return model.eval()


def test_directions__are_those_of_peft_where_the_data_has_clear_ones() -> None:
    theirs, ours = (
        library.get_peft_model_state_dict(started(library, rho=1.0, spread=CLEAR)) for library in (peft, lumora.peft)
    )
    first = "base_model.model.one.lora_A.weight"
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close((ours[first] @ theirs[first].t()).abs(), torch.eye(2), rtol=0, atol=0.1)


def ranks(model: Any) -> list[int]:
    return [layer.r["default"] for layer in model.get_base_model().children()]


@pytest.mark.parametrize("spread", [CLEAR, THREE, ONE, EVEN], ids=["clear", "three", "one", "even"])
def test_ranks__are_shared_out_as_in_peft(spread: tuple[float, ...]) -> None:
    assert ranks(started(lumora.peft, 2.0, spread)) == ranks(started(peft, 2.0, spread))


def test_start__leaves_the_outputs_alone_in_both() -> None:
    x = batches()[0]
    for library in LIBRARIES.values():
        torch.testing.assert_close(started(library, rho=2.0)(x), Net()(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("rho", [1.0, 2.0])
@pytest.mark.parametrize("adjust", [True, False])
def test_adapter_with_shared_out_ranks__loads_in_the_other(
    tmp_path: Path, writer: Any, rho: float, adjust: bool
) -> None:
    x = batches()[0]
    model = started(writer, rho=rho, adjust_scaling_factors=adjust)
    assert ranks(model) == ([2, 2, 2] if rho == 1.0 else [3, 2, 1])
    perturb(model)
    with quiet():
        model.save_pretrained(tmp_path)
        again = other(writer).PeftModel.from_pretrained(Net(), tmp_path).eval()
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=1e-6)
    assert (again(x) - Net()(x)).abs().max() > 1e-2


def test_options__are_those_of_peft() -> None:
    assert vars(lumora.peft.EvaConfig()) == vars(peft.EvaConfig())


def test_functions_for_texts__are_refused() -> None:
    config = lumora.peft.LoraConfig(r=2, target_modules=["one"], init_lora_weights="eva")
    model = lumora.peft.get_peft_model(Net(), config)
    for name in ("prepare_model_inputs_fn", "prepare_layer_inputs_fn"):
        with pytest.raises(ValueError, match=name):
            lumora.peft.initialize_lora_eva_weights(model, batches(), forward_fn=call, **{name: print})
