"""The example runs as its first lines say, and so does the guide's page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from PIL.Image import fromarray
from tests.data.making import noise
from tests.docs.pages import run_page
from tests.hub_server import TOKEN, Client, serving
from tests.keras.making import once, segformer

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [["--lora"], pytest.param([], marks=once)], ids=["lora", "all weights"])
def test_example__trains_measures_writes_a_bundle_and_predicts(arguments, tmp_path):
    command = [sys.executable, str(ROOT / "examples/semantic_segmentation_keras.py"), "--epochs", "2", "--size", "64"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path), *arguments], env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    about = json.loads((tmp_path / "bundle/lumora.json").read_text())
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["is_best"] for row in rows] == [True, rows[1]["mean_iou"] > rows[0]["mean_iou"]]
    assert about["method"] == ("lora" if arguments else "full")
    assert about["metrics"]["mean_iou"] == max(row["mean_iou"] for row in rows)
    assert f"mean IoU on the pictures held back: {rows[1]['mean_iou']:.3f}" in done.stdout
    assert "sky" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "overlay.png").is_file()


@once
def test_example__learns_scenes_from_the_encoder_of_a_preset_and_sends_the_bundle(tmp_path):
    segformer().backbone.image_encoder.save_to_preset(str(tmp_path / "encoder"))
    # As SceneParse150: 0 is not labelled, 1 is wall and 3 is sky.
    mask = fromarray(np.repeat(np.array([0, 1, 3, 3], np.uint8), 16)[:, None].repeat(64, axis=1))
    scenes = {"image": [fromarray(noise(64, 64, seed=i)) for i in range(12)], "annotation": [mask] * 12}
    Dataset.from_dict(scenes, Features(image=Image(), annotation=Image())).save_to_disk(tmp_path / "scenes")
    command = [sys.executable, str(ROOT / "examples/semantic_segmentation_keras.py"), "--out", str(tmp_path / "out")]
    asked = ["--model", tmp_path / "encoder", "--data", tmp_path / "scenes", "--limit", "10", "--push", "user/scenes"]
    with serving() as hub:
        known = {**os.environ, **Client(hub.url, tmp_path / "home", {"HF_TOKEN": TOKEN}).environment}
        done = subprocess.run(
            [*command, *map(str, asked), "--epochs", "1"], env=known, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, done.stderr
        assert "lumora.json" in hub.repositories["user/scenes"].files()
    about = json.loads((tmp_path / "out/bundle/lumora.json").read_text())
    assert about["labels"]["names"][:3] == ["wall", "building", "sky"]
    assert len(about["labels"]["names"]) == 150
    assert set(about["per_class"]) >= {"wall", "sky"}  # what nobody labelled is no class
    rows = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1]


@once
def test_guide__runs_and_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "docs/guides/keras.md")
