"""Programs that follow a training hear what the metrics file says; one that is missing is refused at once."""

from __future__ import annotations

import json

import pytest
from tests.training.tiny import sees, settings

from lumora.errors import RecipeError
from lumora.training import finetune
from lumora.training.tracking import Tracking


@pytest.mark.parametrize("missing", [("mlflow",), ("mlflow", "wandb")])
def test_tracker__that_is_not_installed_is_refused_before_anything_is_made(pictures, tmp_path, missing):
    told = rf"run\.track names {', '.join(missing)}, which .* not installed: pip install {' '.join(missing)}, or leave"
    with pytest.raises(RecipeError, match=told):
        finetune(pictures / "classes", sees(), out=tmp_path / "run", settings=settings(run__track=list(missing)))
    assert not (tmp_path / "run").exists()


def test_tensorboard__gets_losses_and_scores(pictures, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked = settings(run__track=["tensorboard"], train__epochs=4)
    done = finetune(pictures / "classes", sees(), out=tmp_path / "run", settings=asked)
    events = EventAccumulator(str(done.folder / "lumora"))
    events.Reload()
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    told = [(event.step, event.value) for event in events.Scalars("validation/accuracy")]
    assert told == [(row["step"], pytest.approx(row["accuracy"])) for row in rows]
    assert [event.step for event in events.Scalars("loss")] == [10]


class Failing:
    """A tracker whose server goes away."""

    name = "failing"

    def __init__(self):
        self.told = []

    def log(self, values, step):
        self.told.append(step)
        raise ConnectionError("the server is away")

    def finish(self):
        raise AssertionError


def test_tracker__that_fails_is_left_alone_and_the_training_goes_on(tmp_path):
    heard, failing = [], Failing()
    tracking = Tracking((), tmp_path, {}, heard.append)
    tracking._trackers["failing"] = failing
    for _ in range(2):
        tracking._all("log", {"loss": 1.0}, step=10)
    tracking.close()
    assert failing.told == [10]
    assert heard == ["The tracker failing failed and is told nothing more (ConnectionError: the server is away)."]
