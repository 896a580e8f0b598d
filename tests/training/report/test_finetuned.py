"""Reports of real trainings."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
from PIL import Image
from tests.training.report.making import SEES_AS_IT_IS, TellsColours, source
from tests.training.small import NAMES, Drawn
from tests.training.tiny import save_pictures, sees, sees_places, settings, watched

import lumora
from lumora.data import open_source
from lumora.training import finetune, write_report
from lumora.training.events import Listener
from lumora.training.folder import RunFolder
from lumora.training.report.content import content_of
from lumora.training.report.examining import Looking
from lumora.training.report.subject import of_folder

QUICK = {
    "train.epochs": 1,
    "train.batch_size": 4,
    "pictures.size": 32,
    "lora.r": 2,
    "lora.targets": ["conv_pw"],
    "run.live_samples": 0,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "strong colours"
    for i in range(15):
        (root / NAMES[i % 3]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(Drawn(i).picture().permute(1, 2, 0).numpy()).resize((40, 40))
        picture.save(root / NAMES[i % 3] / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    return finetune(pictures, out=tmp_path_factory.mktemp("runs") / "run", settings=QUICK)


@pytest.mark.slow
def test_finetune__ends_with_a_report(run):
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    assert '<h1 dir="auto">strong colours</h1>' in text
    assert run.notes == ()
    found = content_of(of_folder(RunFolder(run.folder)))
    assert dict(found["found"].scores) == pytest.approx(dict(run.scores))
    assert (found["model"]["trained"], found["model"]["parameters"]) == (run.trained, run.parameters)
    choices = {choice.key: choice for section in found["sections"] for choice in section.choices}
    assert (choices["lora.r"].value, choices["lora.r"].how) == ("2", "asked")
    assert (choices["train.precision"].how, choices["train.precision"].why) == ("detected", "the CPU computes")
    assert choices["train.clip"].how == "default"


@pytest.mark.slow
def test_write_report__gives_the_same_page_again(run):
    before = (run.folder / "report.html").read_bytes()
    (run.folder / "report.html").unlink()
    assert write_report(run.folder) == run.folder / "report.html"
    assert (run.folder / "report.html").read_bytes() == before


class Trap:
    """A picture that, once it is armed, asks the process to stop when somebody looks at it."""

    def __init__(self, sample):
        self.sample, self.armed = sample, []

    def __getattr__(self, name):
        return getattr(self.sample, name)

    def picture(self):
        if self.armed:
            os.kill(os.getpid(), signal.SIGINT)
        return self.sample.picture()


class Arming(Listener):
    def __init__(self, trap):
        self.trap = trap

    def doing(self, what):
        if what == "writing the report":
            self.trap.armed.append(what)


def test_finetune__asked_to_stop_while_the_report_is_written_has_its_bundle(tmp_path):
    data = source("classification", NAMES, validation=8, train=16)
    trap = Trap(data.splits["train"][0])
    data.splits["train"][0] = trap
    settings = {"train.method": "head", "train.epochs": 1, "pictures.size": 32, "train.batch_size": 4}
    run = finetune(
        data,
        TellsColours(len(NAMES), places=False),
        preprocessing=SEES_AS_IT_IS,
        out=tmp_path / "run",
        settings={**settings, "run.live_samples": 0},
        listeners=[Arming(trap)],
    )
    assert run.bundle is not None
    assert trap.armed
    [note] = [note for note in run.notes if "report" in note]
    assert "was not written: it was asked to stop. The bundle is saved all the same" in note
    assert not (run.folder / "report.html").exists()
    trap.armed.clear()
    text = write_report(run.folder, data, TellsColours(len(NAMES), places=False)).read_text(encoding="utf-8")
    assert "was not written: it was asked to stop" in text  # what was told on the way


class Counting(Listener):
    """Counts how often a model sees pictures, by what is being done."""

    def __init__(self):
        self.now, self.seen = "", Counter()

    def doing(self, what):
        self.now = what

    def see(self, model, pictures):
        self.seen[self.now] += len(pictures)


@pytest.mark.parametrize("masked", [False, True])
def test_finetune__sees_the_pictures_for_validation_once_for_scores_and_report(masked, tmp_path):
    data = open_source(
        save_pictures(tmp_path, 24) / ("masked" if masked else "classes"), near_duplicates_together=False
    )
    counting = Counting()
    run = finetune(
        data,
        watched(counting.see, masked),
        out=tmp_path / "run",
        settings=settings(train__epochs=1),
        listeners=[counting],
    )
    count = len(data.splits["validation"])
    assert count
    assert counting.seen["measuring the best epoch"] == count
    assert counting.seen["writing the report"] == 0
    before = (run.folder / "report.html").read_bytes()
    assert write_report(run.folder, data, sees_places() if masked else sees()).read_bytes() == before


def test_finetune__saves_its_bundle_where_nothing_can_be_reported(tmp_path, monkeypatch):
    def fail(self, logits, targets):
        raise ZeroDivisionError("nothing to see")

    monkeypatch.setattr(Looking, "__call__", fail)
    data = save_pictures(tmp_path) / "classes"
    run = finetune(data, sees(), out=tmp_path / "run", settings=settings(train__epochs=1))
    assert run.bundle is not None
    assert run.scores["accuracy"] == lumora.load(run.bundle, base=sees()).evaluate(data, split="validation")["accuracy"]
    [note] = [note for note in run.notes if "report" in note]
    assert "was not written: nothing to see" in note


@pytest.mark.slow
def test_report__has_code_that_runs(run, monkeypatch, tmp_path):
    found = content_of(of_folder(RunFolder(run.folder)))
    Image.new("RGB", (40, 40), "red").save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    exec(found["use"], {})
    exec(found["report_again"], {})
    assert found["again_by_command"].startswith("lumora train ")
    space = {}
    exec(found["again"], space)
    assert space["run"].scores == run.scores
    assert space["run"].folder.name == "run-again"
