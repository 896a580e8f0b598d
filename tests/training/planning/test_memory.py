"""The memory that a plan forecasts is what a real training then takes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from tests.tiny_models import save_segformer, save_vit

from lumora.training import plan

TRAIN = """
import json, re, sys
from pathlib import Path
from lumora.training import finetune
data, base, out, settings = json.loads(sys.argv[1])
run = finetune(data, base, out=out, settings=settings)
found = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([int(found[1]) * 1024, run.epochs]))
"""
SETTINGS = {"train.batch_size": 16, "train.epochs": 2, "pictures.size": 128, "run.workers": 0}


def peak_of_training(data, base, out, settings):
    """The most bytes that a real training's process held."""
    command = [sys.executable, "-c", textwrap.dedent(TRAIN), json.dumps([str(data), base, str(out), settings])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    held, epochs = json.loads(printed.splitlines()[-1])
    assert epochs == settings["train.epochs"]
    return held


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("task", "base", "method"),
    [
        ("classification", "embedded", "lora"),
        ("classification", "embedded", "head"),
        ("classification", "embedded", "full"),
        ("classification", "vit", "lora"),
        ("classification", "vit", "head"),
        ("segmentation", "embedded", "lora"),
        ("segmentation", "embedded", "full"),
        ("segmentation", "segformer", "lora"),
        ("segmentation", "segformer", "head"),
    ],
)
def test_plan__forecasts_the_memory_of_a_training(scenes, tmp_path, task, base, method):
    settings = {**SETTINGS, "train.method": method}
    name = "lumora/efficientnet-lite0"
    if base == "vit":
        name = str(save_vit(tmp_path / "base", 0))
        settings["pictures.size"] = 32
    elif base == "segformer":
        name = str(save_segformer(tmp_path / "base", 0, 128))
    planned = plan(scenes / task, name, settings=settings)
    assert planned.failed is None
    assert planned.memory is not None
    forecast = planned.memory.process + planned.memory.pictures
    taken = peak_of_training(scenes / task, name, tmp_path / "run", settings)
    assert forecast == pytest.approx(taken, rel=0.2)
