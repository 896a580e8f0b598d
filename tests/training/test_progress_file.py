import json
import math

import pytest

from lumora.training.events import Begun, StepDone
from lumora.training.progress_file import ProgressFile, StepsDone, read
from lumora.training.stopping import StopRequest


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self):
        return self.now


def begun(step=0, seconds=0.0, max_seconds=None):
    return Begun(1, 2, step, 100, 0, 10, None, seconds, max_seconds, StopRequest())


def stepped(step, loss=0.5):
    return StepDone(step, 100, step // 10, loss, 1e-3, 8.0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def written(tmp_path, clock):
    return ProgressFile(tmp_path / "progress.json", clock)


def test_progress_file__is_written_every_second_and_goes_in_the_end(written, clock, tmp_path):
    path = tmp_path / "progress.json"
    written.begun(begun(step=20))
    assert read(path) is None
    clock.now = 2.0
    written.step_done(stepped(24))
    assert read(path) == StepsDone(step=24, steps=100, epoch=2, loss=0.5, left=38.0)
    clock.now = 2.5
    written.step_done(stepped(25))
    assert read(path).step == 24
    clock.now = 3.0
    written.step_done(stepped(26))
    assert read(path).step == 26
    written.clear()
    assert list(tmp_path.iterdir()) == []


def test_progress_file__knows_the_limit_of_time(written, clock, tmp_path):
    written.begun(begun(seconds=50.0, max_seconds=60.0))
    clock.now = 4.0
    written.step_done(stepped(1))
    assert read(tmp_path / "progress.json").left == 6.0


def test_progress_file__has_no_number_where_the_loss_is_none(written, tmp_path):
    written.begun(begun())
    written.step_done(stepped(1, math.nan))
    assert json.loads((tmp_path / "progress.json").read_text())["loss"] is None


def test_progress_file__what_cannot_be_written_is_left_out(tmp_path):
    lost = ProgressFile(tmp_path / "nowhere/progress.json")
    lost.begun(begun())
    lost.step_done(stepped(1))
    lost.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": 1, "unknown": 2}'])
def test_read__nothing_of_a_file_that_says_something_else(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    assert read(tmp_path / "progress.json") is None
