"""Trainings that something ends: signals wherever they are, damage, full disks, folders that turn read-only."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest
from tests.processes import in_a_process, reachable_folder
from tests.training.tiny import assert_same, save_pictures, sees, settings, watched, weights_of

from lumora.errors import CheckpointError, LumoraError, OutputError, RecipeError, RunError
from lumora.training import checkpoints, finetune, resume
from lumora.training.events import Listener
from lumora.training.loop import Ending


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """What a training comes to that nobody interrupts."""
    return finetune(
        pictures / "classes", sees(), out=tmp_path_factory.mktemp("whole") / "run", settings=settings(**HEAD_FIRST)
    )


HEAD_FIRST = {"train__head_first": 2}
IN_HEAD_FIRST, IN_EVALUATION, IN_LAST_MEASUREMENT, IN_PROOF = 1, 2, 3, 4


class At:
    """Sends a signal in one of the phases of a training, told apart by what the model is called with, and how."""

    def __init__(self, phase, number):
        self.phase, self.number, self.steps = phase, number, 0

    def __call__(self, model, pictures):
        if self.now(model, pictures):
            self.phase = None
            os.kill(os.getpid(), self.number)

    def now(self, model, pictures):
        self.steps += model.training
        return {
            IN_HEAD_FIRST: not model.training and not self.steps and len(pictures) == 4,
            IN_EVALUATION: not model.training and self.steps == 3,
            IN_LAST_MEASUREMENT: not model.training and self.steps == 6 and self.has_measured(),
            IN_PROOF: len(pictures) == 2 and self.steps == 6,
            None: False,
        }[self.phase]

    measured = 0

    def has_measured(self):
        self.measured += 1
        return self.measured == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", [IN_HEAD_FIRST, IN_EVALUATION, IN_LAST_MEASUREMENT, IN_PROOF])
def test_signal__wherever_a_training_is_ends_it_tidily(pictures, tmp_path, whole, phase, number):
    at, place = At(phase, number), tmp_path / "run"
    stopped = finetune(pictures / "classes", watched(at), out=place, settings=settings(**HEAD_FIRST))
    assert at.phase is None
    assert stopped.ending is Ending.ASKED
    assert stopped.signal == number
    assert stopped.bundle is None
    assert not (place / "bundle").exists()
    resumed = resume(place, base=watched(lambda model, pictures: None))
    assert resumed.ending is Ending.COMPLETE
    assert_same(weights_of(whole.folder), weights_of(place))
    assert len((place / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal__while_a_fresh_process_verifies_the_bundle(pictures, tmp_path, number, monkeypatch):
    monkeypatch.setattr("lumora.bundle.verify.subprocess", subprocess)  # one that this process has begun itself
    place, asked = tmp_path / "run", settings(base__name="python:tests.training.tiny:sees", train__epochs=1)

    def interrupt():
        while not list(place.glob(".bundle.*/new/proof.safetensors")):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    stopped = finetune(pictures / "classes", out=place, settings=asked)
    assert stopped.ending is Ending.ASKED
    assert stopped.signal == number
    assert not (place / "bundle").exists()
    assert list(place.glob(".bundle.*")) == []


def test_signal__in_evaluation_keeps_the_epoch_that_was_trained(pictures, tmp_path):
    finetune(pictures / "classes", watched(At(IN_EVALUATION, signal.SIGINT)), out=tmp_path / "run", settings=settings())
    assert checkpoints.newest(tmp_path / "run" / "checkpoints").step == 3


class Stopping(Listener):
    """Asks for a stop after a step."""

    def __init__(self, step):
        self.step = step

    def step_done(self, event):
        if event.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def interrupted(pictures, place, step=4, **more):
    return finetune(
        pictures / "classes", sees(), out=place, settings=settings(**HEAD_FIRST, **more), listeners=[Stopping(step)]
    )


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_resume__passes_over_a_damaged_checkpoint_and_says_so(pictures, tmp_path, whole, file, damage):
    place = tmp_path / "run"
    interrupted(pictures, place)
    newest = max((place / "checkpoints").iterdir())
    assert newest.name == "step-00000004"
    content = (newest / file).read_bytes()
    if damage == "missing":
        (newest / file).unlink()
    else:
        (newest / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b"?" + content[1:])
    resumed = resume(place, base=sees())
    assert "step-00000004 is damaged" in resumed.notes[0]
    assert any("The one before, of step 3, is whole and was taken." in note for note in resumed.notes)
    assert_same(weights_of(whole.folder), weights_of(place))


def test_resume__without_any_whole_checkpoint_says_what_can_be_done(pictures, tmp_path):
    place = tmp_path / "run"
    interrupted(pictures, place)
    for checkpoint in (place / "checkpoints").iterdir():
        (checkpoint / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole.*start a new run with the same recipe"):
        resume(place, base=sees())


class Intruder(Listener):
    """Tries to get into the folder of the training that it hears of."""

    def __init__(self, data, place):
        self.data, self.place, self.answers = data, place, []

    def step_done(self, event):
        if event.step > 1:
            return
        for intrude in (
            lambda: resume(self.place, base=sees()),
            lambda: finetune(self.data, sees(), out=self.place, settings=settings()),
        ):
            for answer in (caught(intrude), in_a_process(lambda: caught(intrude))):  # noqa: B023
                self.answers.append(answer)


def caught(work):
    try:
        return str(work())
    except LumoraError as error:
        return f"{type(error).__name__}: {error}"


def test_runs__never_share_a_folder(pictures, tmp_path):
    intruder = Intruder(pictures / "classes", tmp_path / "run")
    run = finetune(
        pictures / "classes", sees(), out=tmp_path / "run", settings=settings(train__epochs=1), listeners=[intruder]
    )
    assert run.ending is Ending.COMPLETE
    other, other_process, new, new_process = intruder.answers
    for answer in (other, other_process):
        assert answer.startswith(f"RunError: Another run is at work in {tmp_path / 'run'} (process {os.getpid()} on ")
    for answer in (new, new_process):
        assert answer.startswith(f"RunError: There is a run in {tmp_path / 'run'} already.")


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of so many bytes."""
    mounted = []

    def make(size):
        place = tmp_path / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Filling(Listener):
    """Fills the disk after a step."""

    def __init__(self, place, step):
        self.place, self.step = place, step

    def step_done(self, event):
        if event.step == self.step:
            room = os.statvfs(self.place)
            (self.place / "much").write_bytes(bytes(room.f_bavail * room.f_bsize))


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_full_disk__ends_a_training_with_its_last_checkpoint_whole(pictures, small_disk, whole, step):
    disk = small_disk("2m")
    with pytest.raises((OutputError, RunError), match=r"(?s)full|No space left"):
        finetune(
            pictures / "classes",
            sees(),
            out=disk / "run",
            settings=settings(**HEAD_FIRST),
            listeners=[Filling(disk, step)],
        )
    assert checkpoints.newest(disk / "run" / "checkpoints").notes == ()
    (disk / "much").unlink()
    resume(disk / "run", base=sees())
    assert_same(weights_of(whole.folder), weights_of(disk / "run"))


def test_full_disk__from_the_beginning_is_told(pictures, small_disk):
    disk = small_disk("64k")
    Filling(disk, 0).step_done(type("Event", (), {"step": 0}))
    with pytest.raises((OutputError, RunError), match=r"full|No space left"):
        finetune(pictures / "classes", sees(), out=disk / "run", settings=settings())


class TurnsReadOnly(Listener):
    """Takes away the right to write into a folder, and all that is in it."""

    def __init__(self, place):
        self.place = place

    def step_done(self, event):
        if event.step == 4:
            for path in (*self.place.rglob("*"), self.place):
                path.chmod(0o555 if path.is_dir() else 0o444)


def test_read_only_folder__ends_a_training_with_its_last_checkpoint_whole(whole):
    with reachable_folder() as folder:
        save_pictures(folder)
        folder.chmod(0o777)
        place = folder / "run"

        def work():
            os.environ["LUMORA_CACHE"] = str(folder / "cache")
            return finetune(
                folder / "classes",
                sees(),
                out=place,
                settings=settings(**HEAD_FIRST),
                listeners=[TurnsReadOnly(place)],
            )

        answer = in_a_process(work, without_rights=True)
        assert answer.split(":")[0] in ("OutputError", "RunError")
        assert "Permission denied" in answer
        assert checkpoints.newest(place / "checkpoints").notes == ()
        for path in (place, *place.rglob("*")):
            path.chmod(0o777)
        resume(place, base=sees())
        assert_same(weights_of(whole.folder), weights_of(place))


def test_read_only_folder__from_the_beginning_is_told(pictures):
    with reachable_folder() as folder:
        save_pictures(folder)

        def work():
            os.environ["LUMORA_CACHE"] = str(folder / "cache")
            return finetune(folder / "classes", sees(), out=folder / "run", settings=settings())

        answer = in_a_process(work, without_rights=True)
        assert answer.startswith(f"RunError: {folder / 'run'} cannot be used for a run: Permission denied.")


# --- bases at hand ----------------------------------------------------------------------------------------------------


def test_resume__wants_the_base_that_was_given_again(pictures, tmp_path):
    interrupted(pictures, tmp_path / "run")
    with pytest.raises(RecipeError, match=r"adapts a Sees that was given as a module; give it again.*base=model"):
        resume(tmp_path / "run")
    other = sees()
    other.stem.weight.data += 1
    with pytest.raises(CheckpointError, match=r"began with weights of Sees that have the fingerprint sha256"):
        resume(tmp_path / "run", base=other)
