"""Trainings killed at twenty moments, and resumed: the result is an uninterrupted one's, bit for bit."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
from tests.training.killing import Moment, Training
from tests.training.tiny import assert_same, weights_of

from lumora.training import checkpoints

SETTINGS = {
    "train.epochs": 16,
    "train.batch_size": 4,
    "train.ema": 0.9,
    "train.head_first": 2,
    "pictures.size": 32,
    "lora.r": 2,
    "lora.dropout": 0.1,
    "run.checkpoint_every": 0.001,
    "run.live_samples": 1,
    "run.cache": "50 MB",
    "run.cache_on": "disk",
}
BASES = {"classes": "python:tests.training.tiny:sees", "masked": "python:tests.training.tiny:sees_places"}


def moments(training, drawn):
    """Twenty: some inside of writes, some anywhere. Before the cache is written it is forgotten."""
    inside = {
        "checkpoints": f"{training.out}/checkpoints/.",
        "bundle": f"{training.out}/.bundle.",
        "cache": f"{training.cache}/pixels/",
    }
    saving = [("checkpoints", Moment(inside["checkpoints"], drawn.randint(1, 50))) for _ in range(5)]
    keeping = [("cache", Moment(inside["cache"], drawn.randint(1, 9))) for _ in range(3)]
    early = saving + keeping
    drawn.shuffle(early)
    anywhere = [("anywhere", Moment(seconds=drawn.uniform(0.0, 2.5))) for _ in range(8)]
    late = [("bundle", Moment(inside["bundle"], drawn.randint(1, 12))) for _ in range(4)]
    return early + anywhere + late


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classes", "masked"])
@pytest.mark.parametrize("workers", [0, 2])
def test_training__killed_at_twenty_moments_comes_to_the_same_bits(pictures, tmp_path, kind, workers):
    settings = {**SETTINGS, "base.name": BASES[kind], "run.workers": workers}
    whole = Training(pictures / kind, tmp_path / "whole", settings, tmp_path / "cache")
    killed = Training(pictures / kind, tmp_path / "killed", settings, tmp_path / "cache of the killed")
    whole.go_on()
    landed = []
    for where, moment in moments(killed, random.Random(f"{kind} {workers}")):
        if where == "cache":
            shutil.rmtree(killed.cache, ignore_errors=True)
        if killed.go_on(moment):
            landed.append(where)
    assert {"checkpoints", "bundle", "cache"} <= set(landed)
    assert len(landed) >= 18
    assert not killed.go_on()
    assert_same(weights_of(whole.out), weights_of(killed.out))
    assert_same(last_state(whole), last_state(killed))
    assert rows(whole) == rows(killed)
    assert leftovers(killed) == []


def last_state(training):
    return checkpoints.newest(training.out / "checkpoints").checkpoint.tensors


def rows(training):
    lines = (training.out / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def leftovers(training):
    """Temporary folders that nobody removed."""
    found = [name for _, folders, files in os.walk(training.out) for name in (*folders, *files)]
    return [name for name in found if name.startswith(".") and name != ".lock"]
