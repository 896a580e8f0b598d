"""What is adapted, active, merged and trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import AdapterError
from lumora.lora.status import count_parameters, layer_status, model_status


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Conv1d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).unsqueeze(-1)).squeeze(-1))


def _adapted() -> PeftModel:
    model = get_peft_model(Net(), LoraConfig(r=2, target_modules=["first", "second"], modules_to_save=["head"]))
    model.add_adapter("other", LoraConfig(r=2, target_modules=["first"]))
    return model


def test_layer_status__tells_of_every_layer() -> None:
    first, second, head = _adapted().get_layer_status()
    assert (first.name, first.module_type) == ("model.first", "lora.Linear")
    assert (second.name, second.module_type) == ("model.second", "lora.Conv1d")
    assert (head.name, head.module_type) == ("model.head", "ModulesToSaveWrapper")
    assert first.available_adapters == ["default", "other"]
    assert second.available_adapters == head.available_adapters == ["default"]
    for layer in (first, second, head):
        assert layer.enabled
        assert layer.active_adapters == ["default"]
        assert layer.merged_adapters == []
        assert layer.requires_grad["default"] is True
        assert layer.devices["default"] == ["cpu"]
    assert first.requires_grad["other"] is False


def test_model_status__sums_the_layers_up() -> None:
    model = _adapted()
    status = model.get_model_status()
    assert (status.base_model_type, status.adapter_model_type) == ("Net", "LoraModel")
    assert status.peft_types == {"default": "LORA", "other": "LORA"}
    assert (status.trainable_params, status.total_params) == model.get_nb_trainable_parameters()
    assert status.num_adapter_layers == 3
    assert status.enabled is True
    assert status.active_adapters == ["default"]
    assert status.merged_adapters == []
    assert status.requires_grad == {"default": True, "other": False}
    assert status.available_adapters == ["default", "other"]
    assert status.devices == {"default": ["cpu"], "other": ["cpu"]}


def test_model_status__follows_every_switch() -> None:
    model = _adapted()
    model.set_adapter("other")
    assert model.get_model_status().active_adapters == ["other"]
    assert model.get_model_status().requires_grad == {"default": False, "other": True}
    model.merge_adapter()
    assert model.get_model_status().merged_adapters == ["other"]
    model.unmerge_adapter()
    model.base_model.disable_adapter_layers()
    assert model.get_model_status().enabled is False


def test_model_status__is_irregular_where_layers_differ() -> None:
    model = _adapted()
    layer = model.base_model.model.second
    layer.enable_adapters(False)
    layer.lora_A["default"].weight.requires_grad_(False)
    status = model.get_model_status()
    assert status.enabled == "irregular"
    assert status.requires_grad["default"] == "irregular"
    assert model.get_layer_status()[1].requires_grad["default"] == "irregular"
    layer.enable_adapters(True)
    layer.merge()
    assert model.get_model_status().merged_adapters == "irregular"
    layer.unmerge()
    layer.set_adapter([])
    assert model.get_model_status().active_adapters == "irregular"


def test_status__of_a_model_without_a_wrapper() -> None:
    base = _adapted().get_base_model()
    assert [layer.name for layer in layer_status(base)] == ["first", "second", "head"]
    status = model_status(base)
    assert (status.base_model_type, status.adapter_model_type) == ("Net", "None")


def test_status__of_a_model_without_adapters_is_an_error() -> None:
    with pytest.raises(AdapterError, match="Net has no adapted layers"):
        layer_status(Net())


def test_count_parameters__counts_what_is_shared_once() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == (6, 8)


def test_status__changes_nothing() -> None:
    model = _adapted()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    model.get_layer_status(), model.get_model_status()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
