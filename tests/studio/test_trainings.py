"""Trainings as real processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lumora.errors import RunError
from lumora.studio.progress_view import progress_of, signature, steps_of
from lumora.studio.trainings import Trainings, worker
from lumora.training.folder import RunFolder

LONG = {
    "train.epochs": "100000",
    "train.batch_size": "4",
    "pictures.size": "32",
    "lora.r": "2",
    "run.live_samples": "2",
    "run.checkpoint_every": "0.001",
    "data.near_duplicates_together": "false",
}
HOLDS = """
import signal, sys, time
from pathlib import Path
from lumora.training.folder import RunFolder

signal.signal(signal.SIGTERM, lambda number, frame: print("asked", flush=True))
folder = RunFolder(Path(sys.argv[1]))
folder._take()
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


def until(holds, seconds=300):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@pytest.fixture
def opened(tmp_path):
    """Open the folder of runs as a page does; what was begun ends with the test."""
    pages = []

    def open_page():
        pages.append(Trainings(tmp_path / "runs"))
        return pages[-1]

    yield open_page
    for child in (child for page in pages for child in page._children.values()):
        child.kill()
        child.wait()


@pytest.fixture
def trainings(opened):
    return opened()


@pytest.mark.slow
def test_begin__is_found_again_stopped_and_gone_on_with(trainings, opened, pictures, vit):
    begun = trainings.begin(str(pictures / "classes"), {**LONG, "base.name": str(vit)})
    assert begun.state == "starting"
    folder = begun.folder
    until(lambda: RunFolder(folder).read_metrics()[1:] and any((folder / "checkpoints").glob("step-*")))

    later = opened()
    [found] = later.all()
    assert (found.folder, found.state) == (folder, "running")
    with pytest.raises(RunError, match="is running already"):
        later.resume(folder)
    before = signature(found)
    progress = progress_of(found)
    assert progress.runs
    assert progress.epochs == 100_000
    assert {chart.title for chart in progress.course.charts} >= {"Loss", "Accuracy"}
    assert progress.samples.startswith("data:image/jpeg;base64,")

    later.stop(folder)
    until(lambda: trainings.of(folder).state == "stopped")
    assert worker(folder) is None
    assert signature(trainings.of(folder)) != before
    epochs = len(RunFolder(folder).read_metrics())
    with pytest.raises(RunError, match="is not running"):
        later.stop(folder)

    later.resume(folder)
    until(lambda: later.of(folder).state == "running" and len(RunFolder(folder).read_metrics()) > epochs)
    until(lambda: steps_of(later.of(folder)) is not None)  # one stopped while it evaluates goes on with that
    assert steps_of(later.of(folder)).steps == 100_000 * 3
    os.kill(worker(folder), signal.SIGKILL)
    until(lambda: later.of(folder).state == "stopped")
    assert steps_of(later.of(folder)) is None
    shutil.rmtree(folder)
    assert opened().all() == []  # it began, and nobody wants it any more


@pytest.mark.slow
def test_stop__asked_for_twice_saves_all_the_same(trainings, pictures, vit, monkeypatch):
    sent, kill = [], os.kill
    monkeypatch.setattr(os, "kill", lambda process, number: (number and sent.append(number), kill(process, number)))
    folder = trainings.begin(str(pictures / "classes"), {**LONG, "base.name": str(vit)}).folder
    until(lambda: RunFolder(folder).read_metrics()[1:])
    assert not trainings.is_stopping(folder)
    for _ in range(2):
        trainings.stop(folder)
        assert trainings.is_stopping(folder)
    assert sent == [signal.SIGTERM]
    assert trainings._children[folder].wait(120) == 128 + signal.SIGTERM
    assert trainings.of(folder).state == "stopped"
    assert not trainings.is_stopping(folder)
    assert any(line.startswith("go on with") for line in trainings.of(folder).said)


@pytest.fixture
def held(tmp_path):
    """A run at work that a page did not begin: a process that holds its folder, and counts how often it is asked."""
    folder = tmp_path / "runs/held"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("")
    children = []

    def start():
        children.append(subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True))
        assert children[-1].stdout.readline() == "ready\n"
        return children[-1]

    yield folder, start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize("noted", [True, False])
def test_stop__is_asked_once_though_the_page_is_opened_anew(opened, held, noted):
    folder, start = held
    note = folder.parent / ".studio/held.json"
    if noted:
        note.parent.mkdir()
        note.write_text(json.dumps({"process": None, "host": socket.gethostname(), "arguments": ["train", "data"]}))
    child = start()
    opened().stop(folder)
    assert child.stdout.readline() == "asked\n"
    later = opened()
    assert later.is_stopping(folder)
    later.stop(folder)
    time.sleep(0.5)  # it would say that it was asked again
    child.kill()
    assert child.stdout.read() == ""
    child.wait()
    assert not later.is_stopping(folder)

    other = start()  # gone on with from elsewhere
    assert not later.is_stopping(folder)
    later.stop(folder)
    assert other.stdout.readline() == "asked\n"
    assert opened().is_stopping(folder)


def test_stop__of_a_run_of_others_leaves_nothing_on_the_list_once_it_is_removed(trainings, opened, held):
    folder, start = held
    child = start()
    trainings.stop(folder)
    child.kill()
    child.wait()
    shutil.rmtree(folder)
    assert opened().all() == []


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at once", "before there is a recipe"])
def test_stop__before_anything_is_written_is_no_failure(trainings, opened, pictures, vit, when):
    begun = trainings.begin(str(pictures / "classes"), {**LONG, "base.name": str(vit)})
    if when != "at once":
        until(lambda: trainings.of(begun.folder).said[1:])  # it has begun to tell what it does
    trainings.stop(begun.folder)
    until(lambda: not trainings.of(begun.folder).runs)
    [stopped] = opened().all()
    assert (stopped.folder, stopped.state) == (begun.folder, "unbegun")
    assert "nothing was written yet" in progress_of(stopped).words
    assert not begun.folder.exists()
    assert opened().can_go_on(stopped)

    later = opened()
    assert later.resume(begun.folder).state == "starting"
    until(lambda: RunFolder(begun.folder).read_metrics()[1:])
    assert [one.folder for one in later.all()] == [begun.folder]
    assert not later.can_be_forgotten(later.of(begun.folder))
    with pytest.raises(RunError, match="has a folder"):
        later.forget(begun.folder)


def test_forget__takes_what_never_wrote_anything_off_the_list(trainings, opened, tmp_path):
    notes = tmp_path / "runs/.studio"
    notes.mkdir(parents=True)
    for name, stopped in (("stopped", True), ("failed", False)):
        note = {"process": None, "host": socket.gethostname(), "arguments": ["train", "data"], "stopped": stopped}
        (notes / f"{name}.json").write_text(json.dumps(note))
        (notes / f"{name}.txt").write_text("$ lumora train data\n")
    (tmp_path / "runs/stopped").mkdir()
    (tmp_path / "runs/stopped/.lock").write_text("")
    found = {one.name: one for one in trainings.all()}
    assert {name: one.state for name, one in found.items()} == {"stopped": "unbegun", "failed": "failed"}
    for one in found.values():
        assert trainings.can_be_forgotten(one)
        trainings.forget(one.folder)
    assert opened().all() == []
    assert list(notes.iterdir()) == []
    assert not (tmp_path / "runs/stopped").exists()


@pytest.mark.slow
def test_begin__a_training_that_cannot_begin_has_failed_and_says_why(trainings, tmp_path):
    (tmp_path / "empty").mkdir()
    begun = trainings.begin(str(tmp_path / "empty"), {})
    until(lambda: not trainings.of(begun.folder).runs)
    [failed] = Trainings(tmp_path / "runs").all()
    assert (failed.name, failed.state) == ("empty", "failed")
    assert any("No pictures with labels or masks" in line for line in failed.said)
    assert progress_of(failed).state == "failed"
    assert trainings.begin(str(tmp_path / "empty"), {}).folder.name == "empty-2"


@pytest.mark.slow
def test_resume__of_a_run_in_a_folder_of_runs_that_fails_is_there_once_and_says_why(trainings, opened, tmp_path):
    runs = {name: tmp_path / "runs" / name for name in ("old/flowers", "flowers")}
    for folder in runs.values():
        (folder / "checkpoints/step-1").mkdir(parents=True)
        (folder / "recipe.yaml").write_text("no: recipe\n")
    trainings.resume(runs["old/flowers"])
    until(lambda: not trainings.of(runs["old/flowers"]).runs)
    found = {one.folder: one for one in opened().all()}
    assert found.keys() == set(runs.values())
    assert found[runs["old/flowers"]].state == "failed"
    assert found[runs["old/flowers"]].said[0].startswith("$ lumora resume ")
    assert any(line.startswith("error:") for line in found[runs["old/flowers"]].said)
    assert (found[runs["flowers"]].state, found[runs["flowers"]].said) == ("stopped", ())


def test_state__of_a_training_that_failed_before_it_was_gone_on_with(trainings, tmp_path):
    folder = tmp_path / "runs/run"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("")
    console = tmp_path / "runs/.studio/run.txt"
    console.parent.mkdir()
    console.write_text("$ lumora train data\nerror: the disk is full\n")
    assert trainings.of(folder).state == "failed"
    with console.open("a") as file:
        file.write("$ lumora resume runs/run\nepoch 3/5\n")
    assert trainings.of(folder).state == "stopped"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="cannot tell how a process was called")
def test_state__of_a_training_without_a_folder_though_another_process_has_its_number(trainings, tmp_path):
    notes = tmp_path / "runs/.studio"
    notes.mkdir(parents=True)
    note = {"process": os.getpid(), "host": socket.gethostname(), "arguments": ["train", "flowers"]}
    (notes / "flowers.json").write_text(json.dumps(note))
    [found] = trainings.all()
    assert (found.name, found.state) == ("flowers", "failed")
    with pytest.raises(RunError, match="is not running"):
        trainings.stop(found.folder)


def test_all__those_begun_last_come_first_whether_they_have_a_folder_or_not(trainings, tmp_path):
    notes = tmp_path / "runs/.studio"
    notes.mkdir(parents=True)
    for i, name in enumerate(("old", "failed", "new", "failed at last")):
        path = notes / f"{name}.json" if name.startswith("failed") else tmp_path / "runs" / name / "recipe.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        os.utime(path, (i, i))
    assert [one.name for one in trainings.all()] == ["failed at last", "new", "failed", "old"]


@pytest.mark.parametrize(
    ("said", "listed"),
    [
        ("run      runs/run\nepoch 1/1\nended: all epochs are done\n", []),
        ("run      runs/run\n$ lumora resume runs/run\nerror: there is no run\n", ["run"]),
        ("looking at the data …\nerror: No pictures\n", ["run"]),
    ],
)
def test_all__a_run_that_was_removed_is_not_there_but_one_that_never_began_is(trainings, tmp_path, said, listed):
    notes = tmp_path / "runs/.studio"
    notes.mkdir(parents=True)
    (notes / "run.json").write_text(json.dumps({"process": None, "host": socket.gethostname(), "arguments": []}))
    (notes / "run.txt").write_text(f"$ lumora train data\n{said}")
    assert [one.name for one in trainings.all()] == listed


def test_all__of_a_folder_that_is_not_there_is_none(trainings):
    assert trainings.all() == []


def test_state__of_a_run_whose_process_is_of_another_machine(trainings, tmp_path):
    folder = tmp_path / "runs/run"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("")
    (folder / ".lock").write_text(f"process {os.getpid()} on another-machine")
    assert worker(folder) is None
    assert trainings.of(folder).state == "stopped"


def test_state__of_a_run_whose_process_is_gone_though_another_has_its_number(trainings, tmp_path):
    folder = tmp_path / "runs/run"
    with RunFolder.create(folder):
        (folder / "recipe.yaml").write_text("")
        assert worker(folder) == os.getpid()
        assert trainings.of(folder).state == "running"
    assert worker(folder) is None  # this process is there, but does not hold the folder any more
