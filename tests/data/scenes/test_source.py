import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lumora.data.scenes
from lumora.data import Cache, Pictures
from lumora.data.scenes import CLASSES, KINDS, PALETTE, SceneSample, scene, scenes
from lumora.data.scenes.source import _made as drawing
from lumora.data.transforms import Compose
from lumora.errors import DataError


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_scenes__samples_are_the_scenes_of_their_index(task):
    source = scenes(48, size=(40, 56), seed=3, task=task)
    assert source.task == task
    for samples in source.splits.values():
        sample = samples[-1]
        made = scene(3, int(sample.key), (40, 56))
        assert torch.equal(sample.picture(), torch.from_numpy(made.picture).permute(2, 0, 1))
        assert sample.path is None
        if task == "classification":
            assert (sample.target, sample.mask()) == (made.kind, None)
        else:
            assert sample.target is None
            assert np.array_equal(sample.mask().numpy(), made.mask)


def test_scenes__what_a_caller_changes_does_not_come_back():
    sample = scenes(8, size=16, task="segmentation").splits["train"][0]
    first = sample.picture().clone()
    sample.picture().zero_()
    sample.mask().zero_()
    assert torch.equal(sample.picture(), first)
    assert sample.mask().any()


def test_scenes__labels():
    assert scenes(8).labels.names == KINDS
    source = scenes(8, task="segmentation")
    assert (source.labels.names, source.labels.colours) == (CLASSES, PALETTE)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_scenes__in_a_cache_are_the_same_and_drawn_once(task, tmp_path):
    samples = scenes(16, size=(24, 40), task=task).splits["train"]
    cached, plain = (Pictures(samples, Compose(()), cache=cache) for cache in (Cache(tmp_path), None))
    first = [cached[i] for i in range(len(samples))]
    drawn = drawing.cache_info()
    second = [cached[i] for i in range(len(samples))]
    assert drawing.cache_info() == drawn  # nothing was asked for again, let alone drawn
    for one, other, i in zip(first, second, range(len(samples)), strict=True):
        for name, expected in plain[i].items():
            assert torch.equal(one[name], expected) and torch.equal(other[name], expected)
    assert drawing.cache_info().misses >= drawn.misses + len(samples) - 4


def test_fingerprint__differs_where_pixels_do():
    places = [(0, 1, 32), (1, 1, 32), (0, 2, 32), (0, 1, 33), (0, 1, (32, 48)), (0, 1, (48, 32)), (11, 1, 32)]
    made = [SceneSample(*place, task) for place in places for task in ("classification", "segmentation")]
    assert len({sample.fingerprint for sample in made}) == len(made)
    assert SceneSample(0, 1, 32, "segmentation").fingerprint == SceneSample(0, 1, (32, 32), "segmentation").fingerprint


def test_fingerprint__is_the_same_in_another_process():
    code = "from lumora.data.scenes import SceneSample; print(SceneSample(3, 7, 64, 'segmentation').fingerprint)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == SceneSample(3, 7, 64, "segmentation").fingerprint


def test_fingerprint__changes_with_the_code_that_draws(tmp_path):
    package = Path(lumora.data.scenes.__file__).parents[2]
    changed = tmp_path / "lumora"
    shutil.copytree(package, changed, ignore=shutil.ignore_patterns("__pycache__"))
    noise = changed / "data/scenes/noise.py"
    noise.write_text(noise.read_text() + "\n# another noise\n")
    code = "from lumora.data.scenes import SceneSample; print(SceneSample(3, 7, 64, 'segmentation').fingerprint)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() != SceneSample(3, 7, 64, "segmentation").fingerprint


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 31, 32, 100, 1000])
def test_scenes__splits_share_nothing_and_leave_nothing_out(count):
    source = scenes(count, size=16)
    keys = [sample.key for samples in source.splits.values() for sample in samples]
    assert len(keys) == len(set(keys)) == count
    assert len(source.splits["train"]) >= count / 2
    if count >= 32:
        for samples in (source.splits["validation"], source.splits["test"]):
            assert set(np.bincount([sample.target for sample in samples], minlength=8)) == {len(samples) // 8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": 4, "size": 3}, "at least 8"),
        ({"count": 4, "task": "detection"}, "not for 'detection'"),
    ],
)
def test_scenes__bad_wishes(arguments, message):
    with pytest.raises(DataError, match=message):
        scenes(**arguments)
