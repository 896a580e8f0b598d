"""What happens beside `fit`: bundles of the best epochs, and the Hub."""

import json
import warnings

import numpy as np
import pytest
from tests.hub_server import TOKEN, Client, serving
from tests.keras.making import output, picture_model, pixels, twice

from lumora import LoraConfig
from lumora.bundle import read_about
from lumora.data import Labels
from lumora.errors import BundleError, LumoraWarning
from lumora.integrations.keras import (
    BundleCallback,
    MetricCallback,
    PushCallback,
    RunCallback,
    apply_lora,
    describe,
    load_bundle,
)
from lumora.integrations.keras.library import keras
from lumora.models import Preprocessing
from lumora.tasks import Classification

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


def saying(*rows):
    """Puts into the logs of each epoch what is given for it."""
    left = iter(rows)
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(next(left)))


def test_bundle_callback__compares_scores_of_one_name_only(tmp_path):
    told = saying(
        {"val_accuracy": 0.9},
        {"val_accuracy": 0.8, "val_mean_iou": 0.4},
        {"val_accuracy": 0.95, "val_mean_iou": 0.3},
        {"val_accuracy": 0.7},  # and from here on, in another fit
        {"val_accuracy": 0.6, "val_mean_iou": 0.2},
    )
    written = BundleCallback(tmp_path / "bundle", about)
    model, _ = fitted([told, written])
    assert written.best == 0.4
    assert read_about(tmp_path / "bundle").metrics == {"accuracy": 0.8, "mean_iou": 0.4}
    model.fit(*DATA[0], epochs=1, verbose=0, callbacks=[told, written])
    assert written.best == 0.7
    model.fit(*DATA[0], epochs=1, verbose=0, callbacks=[told, written])
    assert read_about(tmp_path / "bundle").metrics == {"accuracy": 0.6, "mean_iou": 0.2}


def test_metric_of_a_number_for_each_class__is_left_out(tmp_path):
    model, run = picture_model(), RunCallback(tmp_path / "run")
    f1 = keras.metrics.F1Score()
    model.compile(keras.optimizers.Adam(0.05), keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[f1])
    given = DATA[0][0], np.eye(4, dtype="float32")[DATA[0][1]]
    kept = [BundleCallback(run.bundle, about, monitor="val_loss", lowest=True), run]
    history = model.fit(*given, validation_data=given, verbose=0, callbacks=kept).history
    assert np.shape(history["val_f1_score"]) == (1, 4)
    assert read_about(run.bundle).metrics == {"loss": pytest.approx(history["val_loss"][0])}
    (row,) = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert row["loss"] == pytest.approx(history["loss"][0])
    assert not [name for name in row if "f1_score" in name]


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


@pytest.mark.parametrize("base", [None, picture_model], ids=["named base", "given base"])
def test_push_callback__that_cannot_send_lets_the_training_end(tmp_path, base):
    push = PushCallback(tmp_path / "no thing", "user/foxes", base=base and base(), private=True)
    named = f"lumora push '{tmp_path / 'no thing'}' user/foxes --private"
    later = named if base is None else "'user/foxes', base=model, private=True)"
    with pytest.warns(LumoraWarning, match="was not sent: There is no folder") as told:
        _, history = fitted([push, RunCallback(tmp_path / "run")], epochs=1)
    assert [later in str(one.message) for one in told if one.category is LumoraWarning] == [True]
    assert push.address is None
    assert len(history["loss"]) == 1


def train_and_push(folder, repository):
    push = PushCallback(folder, repository, base=picture_model(), token=TOKEN)
    fitted([BundleCallback(folder, about, monitor=None), push], epochs=1)
    return push.address


@twice
def test_push_callback__sends_the_bundle_and_checks_what_arrived(tmp_path):
    with serving() as hub:
        address = Client(hub.url, tmp_path / "home").run(train_and_push, tmp_path / "bundle", "user/foxes", seconds=300)
        sent = hub.repositories["user/foxes"].files()
    assert "user/foxes" in address
    assert sent["lumora.json"] == (tmp_path / "bundle/lumora.json").read_bytes()
    assert sent["adapter_model.safetensors"] == (tmp_path / "bundle/adapter_model.safetensors").read_bytes()
