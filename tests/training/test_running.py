"""Whole trainings: from a folder of pictures to a verified bundle."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.training.tiny import save_pictures

import lumora
from lumora.bundle import load
from lumora.errors import DataError, RecipeError, RunError
from lumora.models import load_base
from lumora.training import finetune, resume
from lumora.training.events import Listener
from lumora.training.loop import Ending
from lumora.training.progress_file import read
from lumora.training.recipe import read_recipe

QUICK = {
    "train.epochs": 2,
    "train.batch_size": 4,
    "pictures.size": 32,
    "lora.r": 2,
    "lora.targets": ["conv_pw"],
    "run.checkpoint_every": 0.001,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pictures in class folders, and pictures with masks."""
    return save_pictures(tmp_path_factory.mktemp("data"))


def weights(run):
    [file] = (run.folder / "bundle").glob("*model.safetensors") or (run.folder / "bundle").glob("weights.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("classes", "lora"),
        *[
            pytest.param(kind, method, marks=pytest.mark.slow)
            for kind, method in (
                ("masked", "lora"),
                *((kind, method) for kind in ("classes", "masked") for method in ("full", "head")),
            )
        ],
    ],
)
def test_finetune__gives_a_bundle_that_a_fresh_process_can_use(folders, tmp_path, kind, method):
    settings = {**QUICK, "train.method": method}
    if method != "lora":
        del settings["lora.r"], settings["lora.targets"]
    run = finetune(folders / kind, out=tmp_path / "run", settings=settings)
    assert run.ending is Ending.COMPLETE
    assert run.epochs == 2
    loaded = load(run.bundle)
    assert loaded.about.task == ("segmentation" if kind == "masked" else "classification")
    assert loaded.about.method == method
    assert loaded.about.metrics == pytest.approx(dict(run.scores))
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 3, 6]
    best = max(row["mean_iou" if kind == "masked" else "accuracy"] for row in rows)
    assert run.scores["mean_iou" if kind == "masked" else "accuracy"] == pytest.approx(best)


def test_finetune__says_each_step_in_a_file_while_it_trains(folders, tmp_path):
    seen = []

    class Looks(Listener):
        def epoch_done(self, event):
            seen.append(read(tmp_path / "run/progress.json"))

    (tmp_path / "run").mkdir()
    finetune(folders / "classes", out=tmp_path / "run", settings=QUICK, listeners=[Looks()])
    assert seen[0] is None  # before the first step
    assert [(one.steps, one.step > 0) for one in seen[1:]] == [(6, True)] * 2
    assert not any(path.name.strip(".").startswith("progress") for path in (tmp_path / "run").iterdir())


@pytest.mark.slow
def test_finetune__of_one_recipe_gives_one_adapter(folders, tmp_path):
    first = finetune(folders / "classes", out=tmp_path / "first", settings=QUICK)
    recipe = lumora.training.read_recipe(tmp_path / "first" / "recipe.yaml")
    second = finetune(folders / "classes", recipe=recipe, out=tmp_path / "second")
    other = finetune(folders / "classes", recipe=recipe, out=tmp_path / "third", settings={"train.seed": 1})
    one, same, different = (weights(run) for run in (first, second, other))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert not all(torch.equal(tensor, different[name]) for name, tensor in one.items())


class KilledAt(Listener):
    """Sends this process a signal after a step."""

    def __init__(self, step, number):
        self.step, self.number = step, number

    def step_done(self, event):
        if event.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_finetune__asked_to_stop_saves_and_resumes_to_the_same_adapter(folders, tmp_path, number):
    stopped = finetune(folders / "classes", out=tmp_path / "run", settings=QUICK, listeners=[KilledAt(2, number)])
    assert stopped.ending is Ending.ASKED
    assert stopped.signal == number
    assert stopped.bundle is None
    resumed = resume(tmp_path / "run")
    whole = finetune(folders / "classes", out=tmp_path / "whole", settings=QUICK)
    expected, got = weights(whole), weights(resumed)
    assert all(torch.equal(tensor, got[name]) for name, tensor in expected.items())
    assert resumed.scores == whole.scores


def test_finetune__tells_every_problem_of_what_is_asked_before_anything_is_made(folders, tmp_path):
    with pytest.raises(RecipeError) as caught:
        finetune(folders / "classes", out=tmp_path / "run", settings={"lora.rank": 3, "train.epochs": 0})
    assert "lora.r" in str(caught.value)
    assert "train.epochs is 0" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_finetune__leaves_a_folder_alone_that_holds_another_run(folders, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("train:\n  epochs: 1\n")
    with pytest.raises(RunError, match="There is a run in"):
        finetune(folders / "classes", out=tmp_path / "run", settings=QUICK)


def test_finetune__without_pictures_to_learn_from_says_so(folders, tmp_path):
    shutil.copytree(folders / "classes", tmp_path / "data" / "validation")
    with pytest.raises(DataError, match=r"nothing to learn from.*validation"):
        finetune(tmp_path / "data", out=tmp_path / "run", settings=QUICK)


@pytest.mark.slow
def test_resume__finds_the_data_from_another_folder_and_the_recipe_is_as_it_was_asked_for(
    folders, tmp_path, monkeypatch
):
    shutil.copytree(folders / "classes", tmp_path / "project/colours")
    monkeypatch.chdir(tmp_path / "project")
    stopped = finetune("colours", out="run", settings=QUICK, listeners=[KilledAt(2, signal.SIGTERM)])
    assert stopped.bundle is None
    recipe = (tmp_path / "project/run/recipe.yaml").read_bytes()
    monkeypatch.chdir(tmp_path)
    run = resume("project/run")
    assert run.ending is Ending.COMPLETE
    assert (tmp_path / "project/run/recipe.yaml").read_bytes() == recipe
    assert read_recipe("project/run/recipe.yaml").data.path == "colours"


def test_resume__of_a_finished_run_changes_nothing(folders, tmp_path):
    run = finetune(folders / "classes", out=tmp_path / "run", settings={**QUICK, "train.epochs": 1})
    before = weights(run)
    again = resume(tmp_path / "run")
    assert again.ending is Ending.COMPLETE
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in before.items())


class Heard(Listener):
    def __init__(self):
        self.epochs = []

    def epoch_done(self, event):
        self.epochs.append(event)


@pytest.mark.slow
def test_finetune__trains_the_head_first_on_what_the_base_sees(folders, tmp_path):
    fresh, trained = Heard(), Heard()
    settings = {**QUICK, "train.epochs": 1, "train.rate": 1e-9, "train.head_rate": 0.01}
    finetune(folders / "classes", out=tmp_path / "fresh", settings=settings, listeners=[fresh])
    settings["train.head_first"] = 10
    run = finetune(folders / "classes", out=tmp_path / "first", settings=settings, listeners=[trained])
    assert trained.epochs[0].step == 0
    assert trained.epochs[0].scores["accuracy"] > fresh.epochs[0].scores["accuracy"]
    assert "The head was trained alone for 10 epochs; its loss fell from" in run.notes[0]
    drawn = Image.open(run.folder / "samples" / "epoch-0001.jpg")
    assert drawn.height >= 3 * 256


@pytest.mark.slow
def test_finetune__leaves_out_what_cannot_be_read_and_says_so(folders, tmp_path):
    shutil.copytree(folders / "classes", tmp_path / "data")
    (tmp_path / "data" / "red" / "broken.png").write_bytes((tmp_path / "data" / "red" / "0.png").read_bytes()[:200])
    settings = {**QUICK, "train.epochs": 1, "data.near_duplicates_together": False, "data.skip_bad": True}
    run = finetune(tmp_path / "data", out=tmp_path / "run", settings=settings)
    [note] = [text for text in run.notes if "cannot be read" in text]
    assert "'red/broken.png'" in note
    assert note in (run.folder / "log.txt").read_text()


@pytest.mark.slow
def test_finetune__from_scratch_begins_without_what_the_base_knows(folders, tmp_path):
    settings = {"train.method": "scratch", "train.epochs": 1, "train.batch_size": 4, "pictures.size": 32}
    run = finetune(folders / "classes", out=tmp_path / "run", settings=settings)
    loaded = load(run.bundle)
    assert loaded.about.method == "full"
    known = load_base().module.state_dict()
    for name, value in loaded.model.state_dict().items():
        if "conv" in name and name.endswith("weight"):
            alike = torch.corrcoef(torch.stack([value.flatten(), known[name].flatten()]))[0, 1]
            assert alike.abs() < 0.5, name
