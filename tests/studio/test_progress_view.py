import pytest

from lumora.studio.html import render
from lumora.studio.progress_view import progress_of, signature, steps_of
from lumora.studio.trainings import Training


@pytest.fixture
def training(tmp_path):
    (tmp_path / "run/samples").mkdir(parents=True)
    return Training(tmp_path / "run", "running", ())


def test_progress_of__a_run_that_has_only_begun_is_empty(training):
    progress = progress_of(training)
    assert (progress.epoch, progress.epochs, progress.score, progress.samples) == (0, None, None, None)


def test_progress_of__shows_the_newest_samples_however_many_epochs_there_are(training):
    for name in ("epoch-0000", "epoch-9999", "epoch-10000", "epoch-of-mine"):
        (training.folder / f"samples/{name}.jpg").write_bytes(b"a picture")
    assert progress_of(training).samples_of == "after epoch 10000"
    before = signature(training)
    (training.folder / "samples/epoch-10001.jpg").write_bytes(b"a picture")
    assert signature(training) != before


def test_steps_of__are_shown_while_it_runs(training):
    file = training.folder / "progress.json"
    assert steps_of(training) is None
    before = signature(training)
    file.write_text('{"step": 30, "steps": 120, "epoch": 2, "loss": 0.25, "left": 125.0}')
    assert progress_of(training).now == steps_of(training)
    assert signature(training) != before
    after = signature(training)
    shown = render("steps", name="run", now=steps_of(training), stopping=False)
    assert 'style="width:25.0%"' in shown
    assert "step 30 of 120, loss 0.25, about 2 min 5 s left" in shown
    file.write_text('{"step": 31, "steps": 120, "epoch": 2, "loss": 0.25}')
    assert signature(training) == after  # what is large is not drawn again for each step
    assert steps_of(Training(training.folder, "stopped", ())) is None


def test_steps__say_that_it_is_stopping():
    assert "It saves after the present step" in render("steps", name="run", now=None, stopping=True)
    assert render("steps", name="run", now=None, stopping=False).strip() == ""
