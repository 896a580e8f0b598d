"""Adapters and configurations from before transformers 5 renamed its layers, against transformers' own conversion."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.lora.models import by_hand
from tests.lora.test_architectures import TRANSFORMERS
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import LumoraWarning
from lumora.lora.renamed import current_names, with_current_names

PREFIX = "base_model.model."
RENAMED = [
    "audio-spectrogram-transformer",
    "beit",
    "conditional_detr",
    "deformable_detr",
    "deit",
    "depth_anything",
    "detr",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_convnext",
    "ijepa",
    "pixio",
    "rt_detr",
    "segformer",
    "swin",
    "vit",
    "vit_mae",
    "vivit",
]


def _model(model_type: str) -> nn.Module:
    name, options, *_ = TRANSFORMERS[model_type]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        return getattr(transformers, name)(CONFIG_MAPPING[model_type](**options)).eval()


def _names_before(model_type: str, folder: Path) -> dict[str, str]:
    """Today's name of every parameter -> the one in transformers 4, as transformers itself converts it back."""
    model: Any = _model(model_type)
    tied = {tensor.data_ptr(): name for name, tensor in model.named_parameters(remove_duplicate=False)}
    names = [name for name, tensor in model.named_parameters() if tied[tensor.data_ptr()] == name]
    with torch.no_grad():
        for i, name in enumerate(names):
            model.get_parameter(name).fill_(i + 100)  # no value that a buffer has
    model.save_pretrained(folder, save_original_format=True)
    stored = load_file(folder / "model.safetensors")
    by_value = {int(value.flatten()[0]): name for name, value in stored.items()}
    return {name: by_value[i] for i, name in enumerate(names, 100) if i in by_value}


@pytest.mark.parametrize("model_type", RENAMED)
def test_current_names__undoes_what_transformers_does_when_it_writes_old_names(model_type: str, tmp_path: Path) -> None:
    before = _names_before(model_type, tmp_path)
    assert any(now != old for now, old in before.items())
    assert current_names(before.values(), list(before)) == {old: now for now, old in before.items()}


def _old_files(folder: Path, before: dict[str, str], targets: Any) -> None:
    """Give an adapter's files the names of transformers 4."""
    modules = {now.removesuffix(".weight"): old.removesuffix(".weight") for now, old in before.items()}
    tensors = load_file(folder / "adapter_model.safetensors")

    def old(key: str) -> str:
        path = key.removeprefix(PREFIX)
        if path in before:
            return PREFIX + before[path]
        owner = next(p for p in (path.rsplit(".", n)[0] for n in (1, 2, 3)) if p in modules)
        return PREFIX + modules[owner] + path.removeprefix(owner)

    save_file({old(key): value for key, value in tensors.items()}, folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": targets}))


def _pictures(model: nn.Module, size: int = 32) -> Any:
    with torch.no_grad():
        return by_hand.tensors(model(torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)))


# model -> adapted today, what an old adapter's configuration says for it
OLD_TARGETS: list[tuple[str, list[str], Any]] = [
    ("vit", ["q_proj", "v_proj"], ["query", "value"]),
    ("vit", ["k_proj", "fc1"], ["key", "intermediate.dense"]),
    ("vit", ["o_proj", "fc1", "fc2"], ["dense"]),
    ("vit", ["layers.1.attention.q_proj"], ["vit.encoder.layer.1.attention.attention.query"]),
    ("vit", ["q_proj", "k_proj", "v_proj"], r".*\.attention\.attention\.(query|key|value)"),
    ("beit", ["q_proj", "v_proj"], ["query", "value"]),
    ("deit", ["q_proj", "fc2"], ["query", "layer.0.output.dense", "layer.1.output.dense"]),
    ("dinov2", ["q_proj", "o_proj"], ["query", "output.dense"]),
    ("swin", ["q_proj", "v_proj", "fc1"], ["query", "value", "intermediate.dense"]),
    ("segformer", ["q_proj", "v_proj"], ["query", "value"]),
    ("segformer", ["sequence_reduction.sequence_reduction", "fc1"], ["sr", "dense1"]),
]


@pytest.mark.parametrize(("model_type", "today", "old"), OLD_TARGETS)
def test_load__an_old_adapter_gives_the_same_outputs(
    model_type: str, today: list[str], old: Any, tmp_path: Path
) -> None:
    before = _names_before(model_type, tmp_path)
    head = "decode_head" if model_type == "segformer" else "classifier"
    config = LoraConfig(r=2, target_modules=today, modules_to_save=[head], bias="lora_only")
    model = get_peft_model(_model(model_type), config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) / 4)
    model.save_pretrained(tmp_path)
    _old_files(tmp_path, before, old)
    with pytest.warns(LumoraWarning, match="in this version of the model|before transformers 5"):
        loaded = PeftModel.from_pretrained(_model(model_type), tmp_path)
    by_hand.assert_same(_pictures(loaded), _pictures(model))
    assert {n for n, _ in loaded.named_parameters()} == {n for n, _ in model.named_parameters()}


@pytest.mark.filterwarnings("ignore:.*in this version of the model")
def test_ranks__of_old_names_count() -> None:
    config = LoraConfig(
        target_modules=["query", "value"],
        exclude_modules=["encoder.layer.0.attention.attention.value"],
        rank_pattern={"query": 3, r"encoder\.layer\.1\.attention\.attention\.value": 5},
        alpha_pattern={"value": 2},
    )
    model = get_peft_model(_model("vit"), config)
    ranks = {n: m.r["default"] for n, m in model.get_base_model().named_modules() if hasattr(m, "lora_A")}
    start = "vit.layers"
    assert ranks == {
        f"{start}.0.attention.q_proj": 3,
        f"{start}.1.attention.q_proj": 3,
        f"{start}.1.attention.v_proj": 5,
    }
    assert model.get_submodule(f"base_model.model.{start}.1.attention.v_proj").lora_alpha["default"] == 2
    written = model.peft_config["default"]
    assert written.target_modules == {"q_proj", "v_proj"}
    again = get_peft_model(_model("vit"), written)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert config.target_modules == {"query", "value"}


def test_target_modules__of_old_names_are_adapted_with_a_note() -> None:
    with pytest.warns(LumoraWarning, match="'dense' is called 'fc1', 'fc2', 'o_proj'"):
        get_peft_model(_model("vit"), LoraConfig(target_modules=["dense"]))


def test_names_that_exist__are_left_alone() -> None:
    config = LoraConfig(target_modules=["query", "dense"], rank_pattern={"query": 2})
    modules = ["a.attention.self.query", "a.attention.output.dense", "b.attention.q_proj"]
    assert with_current_names(config, modules) == (config, [])


def test_names_that_never_existed__are_left_to_the_error() -> None:
    config = LoraConfig(target_modules=["no_such_layer"])
    assert with_current_names(config, ["a.attention.q_proj"]) == (config, [])


@pytest.mark.parametrize(
    ("now", "old"),
    [
        # transformers converts these without a way back
        ("model.layer.0.attention.q_proj", "layer.0.attention.q_proj"),
        ("encoder.layers.0.self_attn.q_proj", "vision_model.encoder.layers.0.self_attn.q_proj"),
        ("embeddings.patch_embedding", "vision_model.embeddings.patch_embedding"),
    ],
)
def test_current_names__of_dinov3_and_of_single_towers(now: str, old: str) -> None:
    keys = {f"{PREFIX}{old}.lora_A.weight": f"{PREFIX}{now}.lora_A.weight"}
    assert current_names(keys, list(keys.values())) == keys
