"""What is shown of a training, from events made by hand."""

import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tests.cli.terminal import environment

from lumora.cli import memory
from lumora.cli.pace import Pace
from lumora.cli.progress import Display, Lines, Quiet, display
from lumora.data import Labels, Source
from lumora.tasks.metrics.base import Scores
from lumora.training.events import Begun, EpochDone, Opened, StepDone
from lumora.training.recipe import parse_asked
from lumora.training.rules.base import Origin
from lumora.training.stopping import StopRequest

RECIPE = parse_asked(
    {"data.path": "cats", "base.name": "a/base", "lora.r": 4, "train.epochs": 2, "train.batch_size": 8}
)
SOURCE = Source("classification", Labels(("cat", "dog")), {"train": [None] * 1200, "test": []}, "class folders")
OPENED = Opened(Path("runs/cats"), RECIPE, {"train.epochs": Origin("detected", "as many as suit")}, SOURCE)


def begun(**changes):
    usual = {"step": 0, "steps": 300, "epoch": 0, "epochs": 2, "best": None, "seconds": 0.0, "max_seconds": None}
    return Begun(trained=1_000, parameters=50_000, **{**usual, "stop": StopRequest(), **changes})


def epoch(number, loss, accuracy, is_best):
    return EpochDone(number, 150 * number, loss, 1e-3, Scores({"accuracy": accuracy}), "accuracy", is_best, 61.4)


def test_lines__one_for_each_thing_that_is_to_be_known(capsys):
    lines = Lines()
    lines.opened(OPENED)
    lines.begun(begun(step=150))
    lines.doing("writing the bundle")
    lines.epoch_done(epoch(0, None, 0.5, is_best=True))
    lines.epoch_done(epoch(1, 0.25, 0.75, is_best=True))
    lines.epoch_done(epoch(2, 0.125, 0.625, is_best=False))
    lines.step_done(StepDone(151, 300, 1, 0.25, 1e-3, 40.0))
    lines.evaluating(32, 64)
    lines.told("The loss rose.")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "data     cats (class folders): classification",
        "         pictures: 1,200 to learn from, 0 for a test",
        "         2 labels: 'cat', 'dog'",
        "base     a/base",
        "method   lora: adapters of rank 4 and the head",
        "epochs   2, with 8 pictures a step (as many as suit)",
        "run      runs/cats",
        "         runs/cats/recipe.yaml has every choice; `lumora train --help-all` says how to make others.",
        "trains   1,000 of 50,000 parameters (2 %)",
        "goes on  after step 150 of 300",
        "writing the bundle …",
        "before  accuracy 0.5000  0:01:01",
        "epoch 1/2  loss 0.2500  accuracy 0.7500  0:01:01  best",
        "epoch 2/2  loss 0.1250  accuracy 0.6250  0:01:01",
        "note: The loss rose.",
    ]


def test_lines__without_pictures_to_measure_on(capsys):
    lines = Lines()
    lines.begun(begun())
    lines.epoch_done(EpochDone(1, 150, 0.5, 1e-3, Scores({}), "", True, 2.0))
    assert capsys.readouterr().err.splitlines()[-1] == "epoch 1/2  loss 0.5000  0:00:02"


def test_quiet__shows_warnings_alone(capsys):
    quiet = Quiet()
    with quiet:
        quiet.opened(OPENED)
        quiet.begun(begun())
        quiet.doing("something")
        quiet.epoch_done(epoch(1, 0.25, 0.75, is_best=True))
        quiet.told("The loss rose.")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "note: The loss rose.\n")
    assert quiet.folder == Path("runs/cats")


def drawn(shown, width=100):
    """What the lower lines are now."""
    console = Console(file=io.StringIO(), width=width)
    console.print(shown._shown())
    return console.file.getvalue()


def shown_in(width=100):
    return Display(Console(file=io.StringIO(), width=width, force_terminal=True))


def test_display__steps_evaluations_and_what_else_takes_time():
    shown, stop = shown_in(), StopRequest()
    shown.doing("looking at the data")
    assert "looking at the data …" in drawn(shown)
    shown.begun(begun(stop=stop, best=0.5, step=149))
    shown.step_done(StepDone(150, 300, 1, 0.25, 1e-3, 40.0))
    first, second = drawn(shown).splitlines()[:2]
    assert re.match(r"step 150/300  \S+ +\d+:\d\d:\d\d left", first.strip())
    assert "loss 0.2500   40 pictures/s   memory " in second
    shown.evaluating(32, 64)
    assert "evaluating 32/64" in drawn(shown)
    shown.epoch_done(epoch(1, 0.25, 0.75, is_best=True))
    shown.epoch_done(epoch(2, 0.25, 0.625, is_best=False))
    assert "accuracy 0.6250 (best 0.7500)" in drawn(shown)
    stop.ask(2)
    assert "stopping after this step" in drawn(shown)
    shown.doing("writing the bundle")
    assert "writing the bundle …" in drawn(shown)


def test_display__notes_stand_above_it(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="utf-8", write_through=True))
    with Display(Console(stderr=True, width=100, force_terminal=True)) as shown:
        shown.doing("looking at the data")
        shown._live.refresh()
        shown.told("The loss rose.")
    before, _, after = written.getvalue().decode().partition("note: The loss rose.\n")
    assert before.endswith("\x1b[2K")  # the display is gone
    assert "looking at the data" in after  # and comes back below


def test_display__fits_into_a_narrow_terminal():
    shown = shown_in(40)
    shown.begun(begun())
    shown.step_done(StepDone(150, 300, 1, 0.25, 1e-3, 40.0))
    shown.epoch_done(epoch(1, 0.25, 0.75, is_best=True))
    lines = drawn(shown, 40).rstrip("\n").splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 40


def test_display__no_longer_than_the_training_may_last(monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr("lumora.cli.progress.time.monotonic", lambda: float(next(clock)))
    shown = shown_in()
    shown.begun(begun(max_seconds=600.0, seconds=50.0))  # begins at 0
    shown.step_done(StepDone(1, 300, 0, 0.25, 1e-3, 40.0))  # at 100
    # At 200 and 300: 299 steps of 100 seconds are left, but of the time 600 - 50 - 300 seconds.
    assert "0:04:10 left" in drawn(shown)


def test_display__lines_that_stay_are_not_broken():
    shown = shown_in(40)
    shown.line("word " * 20)
    assert shown._console.file.getvalue().count("\n") == 1


def test_pace__is_not_known_before_a_step_and_forgets_old_ones():
    pace = Pace(steps=100, epochs=1, epoch=0, step=0, now=0.0)
    assert (pace.left(5.0), pace.speed) == (None, None)
    pace.stepped(1, 1.0, now=1000.0)
    for step in range(2, 50):
        pace.stepped(step, 10.0, now=1000.0 + step)
    assert pace.left(1049.0) == pytest.approx(51.0)
    assert pace.speed == 10.0
    assert pace.left(5000.0) == 0.0


def test_memory__is_about_what_the_system_says():
    name, size = memory.memory_in_use()
    assert name == "memory"
    status = Path("/proc/self/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
    assert size == pytest.approx(resident, rel=0.1)


def test_display__suits_where_it_is_written(monkeypatch):
    assert type(display(quiet=True)) is Quiet
    assert type(display(quiet=False)) is Lines
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert type(display(quiet=False)) is Lines
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert type(display(quiet=False)) is Display
    monkeypatch.setenv("TERM", "dumb")
    assert type(display(quiet=False)) is Lines
