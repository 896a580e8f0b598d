import json
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from torch import nn

from lumora.lora.config import LoraConfig
from lumora.lora.model import get_peft_model


def row(text, path):
    """The cells of a table's row, without the spaces inside them."""
    line = next(line for line in text.splitlines() if line.split()[:1] == [path])
    return line.replace(" × ", "×").split()


@pytest.fixture
def adapter(tmp_path):
    config = LoraConfig(r=4, target_modules=["0"], modules_to_save=["1"], base_model_name_or_path="team/flowers")
    get_peft_model(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_inspect__model_of_timm(lumora):
    ended = lumora("inspect", "timm/vit_tiny_patch16_224", "--rank", "16")
    assert (ended.code, ended.err) == (0, "")
    assert row(ended.out, "blocks.*.attn.qkv") == ["blocks.*.attn.qkv", "Linear", "576×192", "12", "1,334,016", "yes"]
    assert row(ended.out, "head")[-1] == "193,000"
    assert "LoRA of rank 16:   12 modules adapted" in ended.out
    assert f"{12 * 16 * (192 + 576):,} parameters" in ended.out


def test_inspect__checkpoint_folder_is_read_by_its_configuration_alone(lumora, tmp_path):
    transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(depths=[1, 1, 1, 1])).save_pretrained(
        tmp_path
    )
    for weights in tmp_path.glob("*.safetensors"):
        weights.unlink()
    ended = lumora("inspect", tmp_path)
    assert ended.code == 0
    assert "SegformerForSemanticSegmentation" in ended.out
    assert "usual for this architecture" in ended.out


def test_inspect__json_of_a_model(lumora):
    seen = json.loads(lumora("inspect", "torchvision/resnet18", "--json").out)
    assert (seen["model"], seen["architecture"], seen["parameters"]) == ("torchvision/resnet18", "ResNet", 11_689_512)
    assert seen["lora"]["rank"] == 8
    assert seen["groups"][0] == {
        "path": "conv1",
        "kind": "Conv2d",
        "shapes": [[64, 3, 7, 7]],
        "count": 1,
        "parameters": 9408,
        "targeted": 0,
    }


def test_inspect__shows_how_pictures_are_prepared_and_whose_the_weights_are(lumora):
    ended = lumora("inspect", "timm/vit_small_patch14_dinov2")
    assert (ended.code, ended.err) == (0, "")
    assert "preprocessing:     shorter side to 518, middle 518 × 518, bicubic, mean 0.485 0.456 0.406" in ended.out
    assert "licence:           apache-2.0" in ended.out
    assert "source:            https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m" in ended.out
    assert "fingerprint" not in ended.out  # it would take a download


def test_inspect__fingerprint_is_the_bases(lumora):
    from lumora.models import load_base

    seen = json.loads(lumora("inspect", "lumora/efficientnet-lite0", "--json").out)
    assert seen["fingerprint"] == load_base(task="classification", num_labels=2).fingerprint
    assert seen["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


def test_inspect__model_without_usual_targets_gets_a_note(lumora, tmp_path, monkeypatch):
    (tmp_path / "inspected_models.py").write_text("from torch import nn\ndef stem(): return nn.Conv2d(3, 4, 3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ended = lumora("inspect", "python:inspected_models:stem")
    assert ended.code == 0
    assert "no usual targets are known" in ended.err


def test_inspect__adapter(lumora, adapter):
    ended = lumora("inspect", adapter)
    assert (ended.code, ended.err) == (0, "")
    assert "base model:        team/flowers" in ended.out
    assert "r:                 4" in ended.out
    assert "lora_alpha" not in ended.out
    assert row(ended.out, "0")[:5] == ["0", "linear", "4", "1", "64"]
    assert row(ended.out, "1")[:5] == ["1", "saved", "whole", "1", "18"]


def test_inspect__json_of_an_adapter(lumora, adapter):
    seen = json.loads(lumora("inspect", adapter, "--json").out)
    assert (seen["base"], seen["config"]["r"], seen["parameters"]) == ("team/flowers", 4, 82)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet5O", "did you mean timm/resnet50"),
        ("no/such/folder", "There is no folder"),
        ("python:torch.nn:Linear", "needs in_features, out_features"),
    ],
)
def test_inspect__what_does_not_exist_ends_with_1(lumora, name, message):
    ended = lumora("inspect", name)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: ")
    assert message in ended.err


def test_inspect__as_a_program(adapter):
    program = Path(sys.executable).with_name("lumora")
    done = subprocess.run([program, "inspect", adapter, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["parameters"] == 82
