"""Whole trainings in the processes that torchrun starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.tiny import save_pictures

from lumora.bundle import load
from lumora.training import finetune, resume
from lumora.training.folder import RunFolder
from lumora.training.loop import Ending
from lumora.training.processes import Alone
from lumora.training.recipe import parse_asked, read_recipe
from lumora.training.report.subject import of_prepared
from lumora.training.setup import prepare, source_for

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("under_torchrun.py")
QUICK = {
    "base.name": "python:tests.training.tiny:sees",
    "train.epochs": 2,
    "train.batch_size": 4,
    "pictures.size": 16,
    "lora.r": 2,
    "lora.dropout": 0,
    "lora.targets": ["stem", "mix"],
    "data.near_duplicates_together": False,
    "train.head_first": 2,
    "train.ema": 0.9,
    "loss.class_weights": "balanced",
    "run.workers": 1,
    "run.checkpoint_every": 0.001,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_pictures(tmp_path_factory.mktemp("data")) / "classes"


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes"],
}


def torchrun(*arguments, processes=2, launcher="torchrun", **options):
    """Start something with torchrun; the process of torchrun itself."""
    command = [sys.executable, "-m", *LAUNCHERS[launcher], str(processes)]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *map(str, arguments)], env=environment, **pipes, **options)


def train(data, folder, processes=2, launcher="torchrun", **asked):
    """What each process got, the exit status and the standard error."""
    told = folder / "told"
    told.mkdir(exist_ok=True)
    for old in told.iterdir():
        old.unlink()
    words = {"data": str(data), "run": str(folder / "run"), "told": str(told), "settings": QUICK, **asked}
    with torchrun(PROGRAM, json.dumps(words), processes=processes, launcher=launcher) as started:
        _, errors = started.communicate(timeout=300)
    got = [json.loads(path.read_text()) for path in sorted(told.glob("*.json"))]
    return got, started.returncode, errors


def weights(folder):
    [file] = Path(folder, "bundle").glob("*model.safetensors")
    return load_file(file)


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=1e-3, atol=1e-4), name


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    return finetune(data, out=tmp_path_factory.mktemp("alone") / "run", settings=QUICK)


def rows(folder):
    lines = Path(folder, "metrics.jsonl").read_text().splitlines()
    return [{name: v for name, v in json.loads(line).items() if name not in ("seconds", "per_class")} for line in lines]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_torchrun__gives_the_bundle_of_one_process(data, alone, tmp_path, launcher):
    (first, second), status, errors = train(data, tmp_path, launcher=launcher)
    assert status == 0, errors
    assert first["ending"] == second["ending"] == "COMPLETE"
    assert first["scores"] == second["scores"] == pytest.approx(dict(alone.scores), rel=1e-3)
    assert first["folder"] == second["folder"] == str(tmp_path / "run")
    assert_close(weights(tmp_path / "run"), weights(alone.folder))
    bundle = load(tmp_path / "run" / "bundle", base=QUICK["base.name"])
    assert bundle.about.metrics == pytest.approx(first["scores"])
    for mine, its in zip(rows(tmp_path / "run"), rows(alone.folder), strict=True):
        assert mine.keys() == its.keys()
    assert first["written"] != []
    assert second["written"] == []


def test_torchrun__draws_the_masks_of_one_process(data, tmp_path):
    """By the losses that nobody has to ask for: pixels that count, and areas."""
    asked = {name: value for name, value in QUICK.items() if name not in ("train.head_first", "loss.class_weights")}
    asked |= {"base.name": "python:tests.training.tiny:sees_places", "train.epochs": 3}
    masked = data.with_name("masked")
    alone = finetune(masked, out=tmp_path / "alone", settings=asked)
    (first, _), status, errors = train(masked, tmp_path, settings=asked)
    assert status == 0, errors
    assert first["scores"] == pytest.approx(dict(alone.scores), rel=1e-3)
    assert_close(weights(tmp_path / "run"), weights(alone.folder))


def test_torchrun__one_signal_to_one_process_stops_all_and_any_number_goes_on(data, alone, tmp_path):
    trouble = {"what": "signal", "rank": 1, "step": 3}
    (first, second), status, errors = train(data, tmp_path, trouble=trouble)
    assert status == 0, errors
    assert first["ending"] == second["ending"] == "ASKED"
    assert first["signal"] == second["signal"] == signal.SIGTERM
    found = RunFolder(tmp_path / "run").resume()
    assert found.step == 4
    resumed = resume(tmp_path / "run", data)
    assert resumed.ending is Ending.COMPLETE
    assert_close(weights(tmp_path / "run"), weights(alone.folder))


def test_torchrun__several_go_on_with_what_one_began(data, alone, tmp_path):
    begun, _, _ = train(data, tmp_path, processes=1, trouble={"what": "signal", "rank": 0, "step": 2})
    assert begun[0]["ending"] == "ASKED"
    (first, second), status, errors = train(data, tmp_path, resume=True)
    assert status == 0, errors
    assert first["ending"] == second["ending"] == "COMPLETE"
    assert_close(weights(tmp_path / "run"), weights(alone.folder))
    assert [row["step"] for row in rows(tmp_path / "run")] == [row["step"] for row in rows(alone.folder)]


@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun__an_error_in_one_process_ends_all_and_is_told_once(data, tmp_path, rank):
    got, status, errors = train(data, tmp_path, trouble={"what": "error", "rank": rank, "step": 2})
    assert got == []
    assert status == 1
    assert errors.count("One picture has vanished.\n") == 1
    assert errors.count("Traceback") == 2  # with the one of torchrun itself
    assert RunFolder(tmp_path / "run").resume().step == 2


def test_torchrun__a_killed_process_ends_the_others_and_they_say_so(data, tmp_path):
    got, status, errors = train(data, tmp_path, trouble={"what": "kill", "rank": 1, "step": 2})
    assert got == []
    assert status == 1
    assert "SIGKILL" in errors
    assert RunFolder(tmp_path / "run").resume().step == 2


def test_torchrun__refuses_processes_that_see_other_pictures(data, tmp_path):
    got, status, errors = train(data, tmp_path, trouble={"what": "other data", "rank": 1})
    assert got == []
    assert status == 1
    assert errors.count("do not see the same pictures") == 1


def test_torchrun__refuses_a_batch_of_fewer_pictures_than_processes(data, tmp_path):
    got, status, errors = train(data, tmp_path, settings={**QUICK, "train.batch_size": 1})
    assert got == []
    assert status == 1
    assert errors.count("train.batch_size is 1, but there are 2 processes") == 1


def test_torchrun__a_signal_to_torchrun_itself_stops_all_with_a_checkpoint(data, alone, tmp_path):
    (tmp_path / "told").mkdir()
    words = {"data": str(data), "run": str(tmp_path / "run"), "told": str(tmp_path / "told")}
    long = {**words, "settings": {**QUICK, "train.epochs": 5000}}
    with torchrun(PROGRAM, json.dumps(long)) as started:
        while len(list(tmp_path.glob("run/checkpoints/step-*"))) < 2:
            assert started.poll() is None, started.stderr.read()
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=100)
    endings = [json.loads(path.read_text())["ending"] for path in (tmp_path / "told").glob("*.json")]
    assert endings == ["ASKED", "ASKED"]
    assert RunFolder(tmp_path / "run").resume() is not None


def test_torchrun__shows_a_training_once_and_tells_once_what_is_asked_wrongly(data, tmp_path):
    settings = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    command = ["-m", "lumora", "train", data, "--out", tmp_path / "run", *settings]
    with torchrun(*command) as started:
        shown, progress = started.communicate(timeout=300)
    assert started.returncode == 0, progress
    assert shown.count("ended:") == 1
    assert progress.count("epoch 2/2") == 1
    with torchrun(*command) as started:
        shown, progress = started.communicate(timeout=300)
    assert (started.returncode, shown) == (1, "")  # torchrun has no other status
    assert progress.count("There is a run in") == 1


class First(Alone):
    """The first of two, by itself."""

    world = 2


def test_report__of_several_processes_looks_at_all_pictures_for_validation(data, alone):
    recipe, source = read_recipe(alone.folder / "recipe.yaml"), source_for(parse_asked({"data.path": data}).data)
    prepared = prepare(recipe, source, torch.device("cpu"), processes=First())
    keys = [sample.key for sample in source.splits["validation"]]
    assert [sample.key for sample in prepared.work.validation.pictures.samples] == keys[::2]
    subject = of_prepared(RunFolder(alone.folder), prepared)
    assert [sample.key for sample in subject.validation.pictures.samples] == keys
