import pytest

from lumora.studio.progress_view import progress_of, signature
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
