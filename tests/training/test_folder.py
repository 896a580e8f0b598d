"""A run's folder: one process at a time, and taken up after any kill as if there had been none."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from tests.processes import in_a_process, reachable_folder

from lumora.errors import CheckpointError, RunError
from lumora.training import checkpoints
from lumora.training.checkpoints import Checkpoint
from lumora.training.folder import RunFolder

NEEDS_FORK = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and kill")


def begun(path):
    """A run that has written its recipe."""
    run = RunFolder.create(path)
    run.recipe.write_text("data: {}\n")
    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_run_folder__says_where_things_lie(tmp_path):
    with RunFolder.create(tmp_path / "runs/pets") as run:
        paths = [run.recipe, run.metrics, run.checkpoints, run.bundle, run.report, run.log]
        assert [str(path.relative_to(tmp_path / "runs/pets")) for path in paths] == [
            "recipe.yaml", "metrics.jsonl", "checkpoints", "bundle", "report.html", "log.txt",
        ]  # fmt: skip
        assert names(run.path) == [".lock"]


def test_run_folder__may_be_named_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunFolder("~/runs/pets").bundle == tmp_path / "runs/pets/bundle"


def test_create__refuses_a_folder_that_is_not_new(tmp_path):
    begun(tmp_path / "run").close()
    with pytest.raises(
        RunError, match=r"There is a run in .*/run already\. Go on with it by `lumora resume .*/run`, or"
    ):
        RunFolder.create(tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(RunError, match=r"mine is not empty \(thesis\.tex\)\. Name a folder that is not there yet"):
        RunFolder.create(tmp_path / "mine")
    assert names(tmp_path / "mine") == ["thesis.tex"]
    for path in (tmp_path / "mine/thesis.tex", tmp_path / "mine/thesis.tex/run"):
        with pytest.raises(
            RunError, match=r"cannot be used for a run: (Not a directory|File exists)\. Name another fol"
        ):
            RunFolder.create(path)


def test_create__takes_an_empty_folder_and_one_whose_run_never_began(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty").close()
    leftover = tmp_path / "empty/.recipe.yaml.12345678"  # of a process that was killed while it wrote the recipe
    leftover.mkdir()
    (leftover / "lumora.lock").touch()
    (leftover / "new").write_text("data")
    with RunFolder.create(tmp_path / "empty"):
        assert names(tmp_path / "empty") == [".lock"]


def test_open__says_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"nowhere is no folder; name the folder of a run, which holds recipe\.yaml"):
        RunFolder.open(tmp_path / "nowhere")
    begun(tmp_path / "pets").close()
    with pytest.raises(RunError, match=r"is no run: it holds no recipe\.yaml\. Perhaps you mean .* in it: pets\."):
        RunFolder.open(tmp_path)
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("how", [RunFolder.open, RunFolder.create])
def test_run_folder__is_one_processs_alone(tmp_path, how):
    path = tmp_path / "run"
    first = RunFolder.create(path)
    if how == RunFolder.open:
        first.recipe.write_text("data: {}")
    message = (
        rf"^Another run is at work in .*run \(process {os.getpid()} on .*\)\. Wait until it is done, or name another"
    )
    with pytest.raises(RunError, match=message):
        how(path)
    first.close()
    with how(path):
        pass
    how(path).close()


@NEEDS_FORK
def test_run_folder__is_taken_by_one_of_many_processes(tmp_path):
    started = time.time() + 0.3

    def work():
        time.sleep(max(0, started - time.time()))
        try:
            run = begun(tmp_path / "run")
        except RunError:
            os._exit(3)
        time.sleep(0.5)
        assert run
        os._exit(0)

    children = []
    for _ in range(6):
        if (child := os.fork()) == 0:
            work()
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 3, 3, 3, 3, 3]


@NEEDS_FORK
def test_run_folder__of_a_killed_process_is_free_though_its_workers_live(tmp_path):
    begun(tmp_path / "run").close()
    ready, told = os.pipe()
    pause, wake = os.pipe()
    if (child := os.fork()) == 0:
        run = RunFolder.open(tmp_path / "run")
        if os.fork() == 0:  # as a loader's worker
            os.write(told, b"1")
            os.read(pause, 1)
            os._exit(0)
        signal.pause()
        run.close()
    os.read(ready, 1)
    with pytest.raises(RunError, match=f"process {child} on"):
        RunFolder.open(tmp_path / "run")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        RunFolder.open(tmp_path / "run").close()
    finally:
        os.write(wake, b"1")


@NEEDS_FORK
@pytest.mark.parametrize("how", [RunFolder.open, RunFolder.create])
def test_run_folder__where_one_may_not_write_says_so(how):
    with reachable_folder() as folder:
        begun(folder / "run").close()
        path = folder / "run" if how == RunFolder.open else folder / "new"
        folder.chmod(0o555)
        assert in_a_process(lambda: how(path), without_rights=True) == (
            f"RunError: {path} cannot be used for a run: Permission denied. Name another folder with --out."
        )
        (folder / "run").chmod(0)
        path = folder / "run"
        assert in_a_process(lambda: how(path), without_rights=True).startswith(
            f"RunError: {path} cannot be used for a run: Permission denied."
        )


def test_append_metrics__writes_a_json_object_a_line(tmp_path):
    rows = [{"step": 1, "loss": 0.1 + 0.2, "best": True}, {"step": 2, "classes": {"a": [1, None]}, "name": "ü\r\n"}]
    with RunFolder.create(tmp_path / "run") as run:
        assert run.read_metrics() == []
        for number, row in enumerate(rows, 1):
            run.append_metrics(row)
            lines = run.metrics.read_text().splitlines()  # seen at once
            assert [json.loads(line) for line in lines] == rows[:number]
        assert run.read_metrics() == rows
        run.append_metrics({"step": 3, "loss": float("nan"), "scores": {"a": [float("-inf"), 1.0]}})
        text = run.metrics.read_text().splitlines()[-1]
        assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
            "step": 3, "loss": None, "scores": {"a": [None, 1.0]},
        }  # fmt: skip


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', "\0\0\0\0", '{"step": 3}', "ü"])
def test_open__cuts_a_torn_line_off(tmp_path, torn):
    run = begun(tmp_path / "run")
    run.append_metrics({"step": 1})
    run.append_metrics({"step": 2})
    whole = run.metrics.read_bytes()
    run.close()
    run.metrics.write_bytes(whole + torn.encode())
    assert RunFolder(run.path).read_metrics() == [{"step": 1}, {"step": 2}]
    assert run.metrics.read_bytes() == whole + torn.encode()  # who only reads changes nothing
    with RunFolder.open(run.path) as again:
        assert run.metrics.read_bytes() == whole
        again.append_metrics({"step": 3})
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]


def test_read_metrics__names_a_damaged_line(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics.write_text('{"step": 1}\n[]\n')
    with pytest.raises(RunError, match=r"Line 2 of .*metrics\.jsonl is no JSON object; remove it"):
        run.read_metrics()


def test_cut_metrics__removes_what_is_later(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        run.cut_metrics(after_step=0)
        for step in (0, 10, 20, 20, 30):
            run.append_metrics({"step": step})
            run.append_metrics({"note": "of no step"})
        run.cut_metrics(after_step=30)
        assert len(run.read_metrics()) == 10
        run.cut_metrics(after_step=25)
        assert run.read_metrics()[-2:] == [{"step": 20}, {"note": "of no step"}]
        assert len(run.read_metrics()) == 8
        run.cut_metrics(after_step=-1)
        assert run.metrics.read_bytes() == b""


@NEEDS_FORK
def test_append_metrics__that_finds_no_room_writes_no_part_of_a_row(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        run.append_metrics({"step": 1})
        before = run.metrics.read_bytes()

        def work():
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
            run.append_metrics({"step": 2, "text": "long"})

        said = in_a_process(work)
        assert said == f"RunError: {run.metrics} cannot be written: File too large. Mend this, then resume the run."
        assert run.metrics.read_bytes() == before


def test_run_folder__on_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if sys.platform == "win32" or os.getuid() or subprocess.run(mount).returncode:
        pytest.skip("may not mount a disk")
    try:
        with begun(disk / "run") as run:
            message, saved = None, 0
            while not message and saved < 1000:
                try:
                    run.append_metrics({"step": saved + 1, "text": "x" * 5000})
                    run.save_checkpoint(Checkpoint({"a": torch.ones(30_000)}, {"n": saved + 1}), saved + 1)
                    saved += 1
                except Exception as error:
                    message = f"{type(error).__name__}: {error}"
            assert "the disk is full: 0." in message or "No space left on device" in message
            assert saved > 5
            found = run.resume()
            assert (found.step, found.notes) == (saved, ())
            assert len(run.read_metrics()) == saved
    finally:
        subprocess.run(["umount", disk], check=True)


def test_resume__of_nothing_begins_anew(tmp_path):
    with begun(tmp_path / "run") as run:
        run.append_metrics({"step": 0})
        assert run.resume() is None
        assert run.read_metrics() == []


def test_resume__gives_the_metrics_of_the_checkpoint_that_it_falls_back_to(tmp_path):
    with begun(tmp_path / "run") as run:
        for step in (10, 20):
            run.append_metrics({"step": step})
            run.save_checkpoint(Checkpoint({}, {"step": step}), step)
            run.append_metrics({"step": step, "after": True})
        (run.checkpoints / "step-00000020/state.json").write_text("")
        found = run.resume()
        assert (found.step, found.checkpoint.state, len(found.notes)) == (10, {"step": 10}, 2)
        assert run.read_metrics() == [{"step": 10}]
        checkpoints.save(run.checkpoints, Checkpoint({}, {}), 30)
        with pytest.raises(CheckpointError, match=r"The checkpoint of step 30 in .* is of no run\."):
            run.resume()


STEPS = 60


def run_on(path, until=STEPS):
    """A tiny training: rows and checkpoints at steps that do not fall together, two of one step among them."""
    run = RunFolder.open(path) if (path / "recipe.yaml").exists() else begun(path)
    with run:
        found = run.resume()
        value = found.checkpoint.tensors["value"] if found else torch.zeros(3000, dtype=torch.float64)
        step = found.step if found else 0
        judged = found.checkpoint.state["judged"] if found else 0
        while True:
            if step % 10 == 0 and judged < step:
                run.append_metrics({"step": step, "judged": float(value.sum())})
                judged = step
                run.save_checkpoint(Checkpoint({"value": value}, {"judged": judged}), step)
            if step == until:
                return
            step += 1
            value = torch.sin(value + step)
            run.append_metrics({"step": step, "loss": float(value.mean())})
            if step % 5 == 0:
                run.save_checkpoint(Checkpoint({"value": value}, {"judged": judged}), step)


@NEEDS_FORK
@pytest.mark.slow
def test_run_folder__killed_at_random_moments_ends_as_an_uninterrupted_one(tmp_path):
    whole, killed, moments = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed"), random.Random(0)
    began = time.time()
    run_on(whole.path)
    lasted, kills = time.time() - began, 0
    expected = checkpoints.newest(whole.checkpoints)
    for attempt in range(1000):
        if (child := os.fork()) == 0:
            run_on(killed.path)
            os._exit(0)
        time.sleep(moments.uniform(0, lasted / 4))
        if attempt < 25 or kills < 20:
            os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            if kills >= 20:
                break
            shutil.rmtree(killed.path)  # done before it could be killed often enough
        else:
            kills += 1
    found = checkpoints.newest(killed.checkpoints)
    assert killed.metrics.read_bytes() == whole.metrics.read_bytes()
    assert (found.step, found.checkpoint.state) == (STEPS, expected.checkpoint.state)
    assert found.checkpoint.tensors["value"].equal(expected.checkpoint.tensors["value"])
    assert names(killed.path) == names(whole.path) == [".lock", "checkpoints", "metrics.jsonl", "recipe.yaml"]
    assert names(killed.checkpoints) == names(whole.checkpoints)
