"""The folder of a run in Keras: rows, a log, how far it is, a report."""

import json

import numpy as np
import pytest
from tests.keras.making import picture_model, pixels

from lumora import LoraConfig
from lumora.data import Labels
from lumora.data.scenes import scenes
from lumora.data.transforms import classification_eval
from lumora.errors import RunError
from lumora.integrations.keras import (
    BundleCallback,
    MetricCallback,
    PictureDataset,
    RunCallback,
    apply_lora,
    describe,
)
from lumora.integrations.keras.library import keras
from lumora.models import Preprocessing
from lumora.tasks import Classification, task_for
from lumora.training.progress_file import read

TASK = Classification(Labels(("fox", "otter", "owl", "newt")))
DATA = [(pixels(8, seed=1), np.arange(8, dtype="int32") % 4)]


def compiled(classes=4):
    model = apply_lora(picture_model(classes), LoraConfig(r=2, target_modules=["hidden"], modules_to_save=["score"]))
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fitted(callbacks, epochs=3, classes=4):
    model = compiled(classes)
    return model, model.fit(*DATA[0], epochs=epochs, verbose=0, callbacks=callbacks).history


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_run_callback__writes_rows_and_a_log(tmp_path):
    run = RunCallback(tmp_path / "run")
    _, history = fitted([MetricCallback(TASK, DATA), run])
    rows = rows_of(tmp_path / "run")
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 1), (2, 2), (3, 3)]
    assert [row["accuracy"] for row in rows] == pytest.approx(history["val_accuracy"])
    assert [row["rate"] for row in rows] == pytest.approx([0.05] * 3)
    assert len((tmp_path / "run/log.txt").read_text().splitlines()) == 4
    assert not (tmp_path / "run/report.html").exists()  # without data
    with pytest.raises(RunError, match="is not empty"):
        RunCallback(tmp_path / "run")


def test_run_callback__tells_scores_of_training_from_those_held_back(tmp_path):
    model = picture_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    run = RunCallback(tmp_path / "run")
    held_back = (pixels(8, seed=9), np.arange(8) % 4)
    history = model.fit(*DATA[0], validation_data=held_back, epochs=2, verbose=0, callbacks=[run]).history
    rows = rows_of(tmp_path / "run")
    names = {"loss": "loss", "val_loss": "val_loss", "train_accuracy": "accuracy", "accuracy": "val_accuracy"}
    for there, here in names.items():
        assert [row[there] for row in rows] == pytest.approx(history[here])


def test_scores_of_training__are_called_so_also_where_nothing_was_held_back(tmp_path):
    model = picture_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    callbacks = [MetricCallback(TASK, DATA, every=2), RunCallback(tmp_path / "run")]
    history = model.fit(*DATA[0], epochs=2, verbose=0, callbacks=callbacks).history
    rows = rows_of(tmp_path / "run")
    assert [row["train_accuracy"] for row in rows] == pytest.approx(history["accuracy"])
    assert [row.get("accuracy") for row in rows] == [None, *history["val_accuracy"]]


def test_run_callback__reports_on_the_bundle(tmp_path):
    source = scenes(80, 12)
    task = task_for(source)
    seen = Preprocessing(resize=(12, 12))
    data = PictureDataset(source, task, classification_eval(12, seen.mean, seen.std), split="validation", shuffle=False)
    run = RunCallback(tmp_path / "run", source)
    kept = BundleCallback(
        run.bundle, lambda model, scores: describe(model, task, seen, (12, 12), metrics=scores), monitor="val_accuracy"
    )
    _, history = fitted([MetricCallback(task, data), kept, run], classes=len(task.labels))
    page = (tmp_path / "run/report.html").read_text()
    best = max(history["val_accuracy"])
    assert f"{100 * best:.1f} %" in page or f"{100 * best:.0f} %" in page
    assert all(label in page for label in source.labels.names)
    assert "lumora.finetune" not in page  # that would train another model
    rows = rows_of(tmp_path / "run")
    firsts = [score > max(history["val_accuracy"][:i], default=-1) for i, score in enumerate(history["val_accuracy"])]
    assert [row["is_best"] for row in rows] == firsts


def test_second_fit__goes_on_with_the_run(tmp_path):
    model, run = compiled(), RunCallback(tmp_path / "run")
    for options in ({"epochs": 2}, {"epochs": 1}, {"epochs": 5, "initial_epoch": 3}):
        model.fit(*DATA[0], batch_size=4, verbose=0, callbacks=[run], **options)
    rows = rows_of(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    other = RunCallback(tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"notes.txt.*not there yet\.$"):
        model.fit(*DATA[0], epochs=1, verbose=0, callbacks=[other])


def test_fit_that_was_interrupted__is_gone_on_with(tmp_path):
    def stop(batch, logs):
        raise KeyboardInterrupt

    model, run = compiled(), RunCallback(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        model.fit(*DATA[0], verbose=0, callbacks=[run, keras.callbacks.LambdaCallback(on_train_batch_end=stop)])
    model.fit(*DATA[0], epochs=2, verbose=0, callbacks=[run])
    assert [row["epoch"] for row in rows_of(tmp_path / "run")] == [1, 2]


def test_progress__says_how_far_it_is_while_it_trains(tmp_path):
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(read(tmp_path / "run/progress.json"))
    )
    model, run = compiled(), RunCallback(tmp_path / "run")
    for epochs in (2, 1):
        model.fit(*DATA[0], batch_size=2, epochs=epochs, verbose=0, callbacks=[run, look])
    assert (seen[0].step, seen[0].steps, seen[0].epoch) == (1, 8, 0)
    assert np.isfinite(seen[0].loss)
    assert not (tmp_path / "run/progress.json").exists()
