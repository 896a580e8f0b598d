"""The example runs as its first lines say, and so does the guide's page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import run_page
from tests.keras.making import once

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
def test_guide__runs_and_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "docs/guides/keras.md")
