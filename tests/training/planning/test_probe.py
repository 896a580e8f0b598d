"""Steps that are tried in a process of their own."""

from __future__ import annotations

import sys
import textwrap

import pytest
from tests.data.making import class_folders, noise, put
from tests.tiny_models import save_vit

from lumora.models import load_base
from lumora.training import plan
from lumora.training.setup import source_for

SMALL = {"train.batch_size": 2, "train.epochs": 3, "pictures.size": 32, "run.workers": 0}


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.slow
def test_plan__measures_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("LUMORA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    class_folders(tmp_path / "data", each=6)
    name = str(save_vit(tmp_path / "base", 0))
    before = files_in(tmp_path)
    planned = plan(tmp_path / "data", name, settings=SMALL)
    left = [path for path in files_in(tmp_path) if path not in before and not path.startswith("cache/fingerprints")]
    assert left in ([], ["cache"])
    assert planned.failed is None
    assert 0 < planned.time.least <= planned.time.most
    assert planned.base.fingerprint == load_base(name, task="classification", num_labels=2).fingerprint
    assert planned.course.steps == 3 * planned.course.steps_in_epoch
    assert planned.as_dict()["time"]["least"] == planned.time.least


def test_plan__without_a_probe_measures_nothing(tmp_path):
    planned = plan(class_folders(tmp_path / "data"), settings=SMALL, probe=False)
    assert (planned.memory, planned.time, planned.failed) == (None, None, None)
    assert planned.base.fingerprint is None
    assert planned.base.licence == "apache-2.0"


def test_plan__of_data_at_hand_says_why_nothing_was_measured(tmp_path):
    class_folders(tmp_path / "data")
    asked = plan(tmp_path / "data", settings=SMALL, probe=False).recipe
    planned = plan(source_for(asked.data), settings=SMALL)
    assert planned.time is None
    assert "at hand in Python" in planned.notes[-1]


@pytest.mark.slow
def test_plan__says_why_a_training_cannot_be_done(tmp_path):
    class_folders(tmp_path / "data", classes=("cat", "dog"), splits=("train", "validation"))
    (tmp_path / "data/train/cat/broken.png").write_bytes(put(tmp_path / "x.png", noise()).read_bytes()[:60])
    settings = {**SMALL, "train.batch_size": 9}
    planned = plan(tmp_path / "data", settings=settings)
    assert planned.time is None
    assert "broken.png" in planned.failed
    planned = plan(tmp_path / "data", settings={**settings, "train.batch_size": 8, "data.skip_bad": True})
    assert planned.failed is None
    assert "broken.png" in planned.notes[0]


@pytest.mark.slow
def test_plan__of_a_training_that_is_killed(tmp_path, monkeypatch):
    code = """
    import os, sys, torch
    def factory():
        if "planning" in sys.argv[0]:
            os.kill(os.getpid(), 9)
        pooled = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), *pooled, torch.nn.Linear(4, 2))
    """
    (tmp_path / "killed.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    settings = {**SMALL, "base.name": "python:killed:factory", "lora.targets": ["0"]}
    planned = plan(class_folders(tmp_path / "data"), settings=settings)
    assert "ended by signal 9" in planned.failed
    assert "train.micro_batch" in planned.failed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_plan__counts_the_processes_that_read(tmp_path):
    class_folders(tmp_path / "data", each=6)
    name = str(save_vit(tmp_path / "base", 0))
    planned = plan(tmp_path / "data", name, settings={**SMALL, "run.workers": 2})
    assert planned.memory.readers > 2 * 1_000_000
    assert planned.memory.whole >= planned.memory.process + planned.memory.readers
