"""What happens beside `fit`: bundles of the best epochs, the Hub, a run's folder."""

import json
import warnings

import numpy as np
import pytest
from tests.hub_server import TOKEN, Client, serving
from tests.keras.making import once, output, picture_model, pixels

from lumora import LoraConfig
from lumora.bundle import read_about
from lumora.data import Labels
from lumora.data.scenes import scenes
from lumora.data.transforms import classification_eval
from lumora.errors import BundleError, LumoraWarning, RunError
from lumora.integrations.keras import (
    BundleCallback,
    MetricCallback,
    PictureDataset,
    PushCallback,
    RunCallback,
    apply_lora,
    describe,
    load_bundle,
)
from lumora.integrations.keras.library import keras
from lumora.models import Preprocessing
from lumora.tasks import Classification, task_for

TASK = Classification(Labels(("fox", "otter", "owl", "newt")))
DATA = [(pixels(8, seed=1), np.arange(8, dtype="int32") % 4)]


def about(model, scores):
    return describe(model, TASK, Preprocessing(resize=(12, 12)), (12, 12), metrics=scores)


def fitted(callbacks, epochs=3, classes=4):
    model = apply_lora(picture_model(classes), LoraConfig(r=2, target_modules=["hidden"], modules_to_save=["score"]))
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, model.fit(*DATA[0], epochs=epochs, verbose=0, callbacks=callbacks).history


def test_bundle_callback__keeps_the_best_epoch(tmp_path):
    written = BundleCallback(tmp_path / "bundle", about, monitor="val_accuracy")
    _, history = fitted([MetricCallback(TASK, DATA), written])
    assert written.best == max(history["val_accuracy"])
    metrics = read_about(tmp_path / "bundle").metrics
    assert metrics["accuracy"] == pytest.approx(written.best)
    assert metrics.keys() == {name.removeprefix("val_") for name in history if name.startswith("val_")}


def test_bundle_callback__passes_over_epochs_that_were_not_measured(tmp_path):
    written = BundleCallback(tmp_path / "bundle", about, monitor="val_accuracy")
    _, history = fitted([MetricCallback(TASK, DATA, every=2), written], epochs=4)
    assert len(history["loss"]) == 4
    assert written.best == max(history["val_accuracy"])


def test_bundle__holds_a_table_of_the_classes(tmp_path):
    measured = MetricCallback(TASK, DATA)

    def with_classes(model, scores):
        seen = Preprocessing(resize=(12, 12))
        return describe(model, TASK, seen, (12, 12), metrics=scores, per_class=measured.scores.per_class)

    fitted([measured, BundleCallback(tmp_path / "bundle", with_classes, monitor=None)], epochs=1)
    assert read_about(tmp_path / "bundle").per_class == measured.scores.per_class != {}


def test_bundle_callback__can_follow_a_loss_or_nothing(tmp_path):
    lowest = BundleCallback(tmp_path / "a", about, monitor="loss", lowest=True)
    every = BundleCallback(tmp_path / "b", about, monitor=None)
    model, history = fitted([lowest, every])
    assert lowest.best == min(history["loss"])
    again = load_bundle(tmp_path / "b", base=picture_model())
    np.testing.assert_allclose(output(again, DATA[0][0]), output(model, DATA[0][0]), atol=1e-5)


def test_bundle_callback__takes_the_usual_score_of_the_task(tmp_path):
    written = BundleCallback(tmp_path / "bundle", about)
    _, history = fitted([MetricCallback(TASK, DATA), written])
    assert written.best == max(history["val_accuracy"])


def test_bundle_callback__without_its_score_says_so_at_once_and_keeps_the_last_epoch(tmp_path):
    told, ended = [], []
    later = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: told.append([str(w.message) for w in caught])),
        RunCallback(tmp_path / "run"),
        keras.callbacks.LambdaCallback(on_train_end=lambda logs: ended.append(True)),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LumoraWarning)
        model, history = fitted([BundleCallback(tmp_path / "bundle", about, monitor="val_mean_iou"), *later])
    (first,) = (text for text in told[0] if "MetricCallback" in text)
    assert "There was no 'val_mean_iou' in the logs of fit, only 'loss'" in first
    assert "that of the last epoch, not of the best" in str(caught[-1].message)
    assert len(history["loss"]) == 3
    assert ended
    again = load_bundle(tmp_path / "bundle", base=picture_model())
    np.testing.assert_allclose(output(again, DATA[0][0]), output(model, DATA[0][0]), atol=1e-5)


def test_bundle_callback__of_scores_that_are_no_numbers_keeps_the_last_epoch(tmp_path):
    undefined = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_accuracy=float("nan")))
    with pytest.warns(LumoraWarning, match="'val_accuracy' was no number after any epoch"):
        model, _ = fitted([undefined, BundleCallback(tmp_path / "bundle", about)])
    again = load_bundle(tmp_path / "bundle", base=picture_model())
    np.testing.assert_allclose(output(again, DATA[0][0]), output(model, DATA[0][0]), atol=1e-5)


def test_bundle_callback__that_cannot_write_at_the_end_lets_the_training_end(tmp_path):
    def nothing(model, scores):
        raise BundleError("it cannot be described")

    with pytest.warns(LumoraWarning, match="no bundle was written: it cannot be described"):
        _, history = fitted([BundleCallback(tmp_path / "bundle", nothing, monitor="val_mean_iou")])
    assert len(history["loss"]) == 3


def test_run_callback__writes_rows_and_a_log(tmp_path):
    run = RunCallback(tmp_path / "run")
    _, history = fitted([MetricCallback(TASK, DATA), run])
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
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
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    names = {"loss": "loss", "val_loss": "val_loss", "train_accuracy": "accuracy", "accuracy": "val_accuracy"}
    for there, here in names.items():
        assert [row[there] for row in rows] == pytest.approx(history[here])


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
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    firsts = [score > max(history["val_accuracy"][:i], default=-1) for i, score in enumerate(history["val_accuracy"])]
    assert [row["is_best"] for row in rows] == firsts


def train_and_push(folder, repository):
    push = PushCallback(folder, repository, base=picture_model(), token=TOKEN)
    fitted([BundleCallback(folder, about, monitor=None), push], epochs=1)
    return push.address


@once
def test_push_callback__sends_the_bundle_and_checks_what_arrived(tmp_path):
    with serving() as hub:
        address = Client(hub.url, tmp_path / "home").run(train_and_push, tmp_path / "bundle", "user/foxes", seconds=300)
        sent = hub.repositories["user/foxes"].files()
    assert "user/foxes" in address
    assert sent["lumora.json"] == (tmp_path / "bundle/lumora.json").read_bytes()
    assert sent["adapter_model.safetensors"] == (tmp_path / "bundle/adapter_model.safetensors").read_bytes()
