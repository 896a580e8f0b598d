"""The demo, with fewer and smaller pictures than people get."""

import json

import pytest
import torch
from typer.testing import CliRunner

from lumora.bundle import load
from lumora.cli import demo
from lumora.cli.app import app

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    parts = {
        "classification": demo.Part(pictures=40, size=48, epochs=1, score="accuracy"),
        "segmentation": demo.Part(pictures=24, size=64, epochs=1, score="mean_iou"),
    }
    monkeypatch.setattr(demo, "PARTS", parts)
    monkeypatch.chdir(tmp_path)


def test_demo__compares_the_ways_and_leaves_what_each_came_to(tmp_path):
    result = CliRunner().invoke(app, ["demo", "classification"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines() if " MB" in line or " kB" in line]
    assert [" ".join(row[:-6]) for row in rows] == ["head only", "LoRA", "full fine-tuning", "from scratch"]
    folder = tmp_path / "runs/demo/classification"
    for method in ("head", "lora", "full", "scratch"):
        assert load(folder / method / "bundle").about.recipe["train"]["method"] == method
        assert (folder / method / "report.html").is_file()
    assert "runs/demo/classification/lora/report.html" in result.stdout
    assert "lumora train FOLDER" in result.stdout


def test_demo__tells_machines_of_both_tasks_and_takes_a_new_folder_each_time(tmp_path):
    for name in ("demo", "demo-2"):
        result = CliRunner().invoke(app, ["demo", "--lora-only", "--json"])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["folder"] == f"runs/{name}"
    assert list(found["tasks"]) == ["classification", "segmentation"]
    (way,) = found["tasks"]["segmentation"]
    assert way["method"] == "lora"
    bundle = load(tmp_path / way["run"] / "bundle")
    trained = sum(p.numel() for p in bundle.model.parameters() if p.requires_grad or torch.is_floating_point(p))
    assert 0 < way["trained_parameters"] < trained
    assert way["weights_bytes"] == (tmp_path / way["run"] / "bundle/adapter_model.safetensors").stat().st_size


def test_demo__refuses_a_folder_that_is_there(tmp_path):
    (tmp_path / "mine").mkdir()
    result = CliRunner().invoke(app, ["demo", "--out", "mine"])
    assert result.exit_code == 2
    assert "mine is there already" in result.output
