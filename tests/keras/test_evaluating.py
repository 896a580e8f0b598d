"""Metrics of Keras models: the numbers that the torch path gives for the same predictions."""

import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from tests.keras.making import fill, once, output, picture_model, pixels, value

from lumora import LoraConfig
from lumora.data import Labels
from lumora.errors import MetricError
from lumora.integrations.keras import MetricCallback, apply_lora, describe, evaluate, load_bundle, save_bundle
from lumora.integrations.keras.library import tensorflow
from lumora.models import Preprocessing
from lumora.tasks import Classification, Segmentation

NAMES = ("sky", "sea", "land", "wood")
CLASSES = Classification(Labels(NAMES))
PLACES = Segmentation(Labels(NAMES))


def segmenter():
    keras.utils.set_random_seed(5)
    layers = [keras.Input((12, 16, 3)), keras.layers.Conv2D(4, 3, strides=4, padding="same", name="places")]
    return keras.Sequential(layers)


def batches(task, count=4):
    random = np.random.default_rng(9)
    for _ in range(count):
        given = random.normal(size=(3, 12, 12 if task is CLASSES else 16, 3)).astype("float32")
        shape = (3,) if task is CLASSES else (3, 12, 16)
        labels = random.integers(0, 4, shape).astype("int32")
        if task is PLACES:
            labels[:, :3] = 255
        yield given, labels


@pytest.mark.parametrize(("task", "make"), [(CLASSES, picture_model), (PLACES, segmenter)], ids=["classes", "places"])
def test_evaluate__gives_the_scores_of_the_torch_path(task, make):
    model, metrics, data = make(), task.new_metrics(), list(batches(task))
    for given, labels in data:
        logits = torch.from_numpy(value(model(given)))
        metrics.update(logits if task is CLASSES else logits.permute(0, 3, 1, 2), torch.from_numpy(labels))
    expected = metrics.scores()
    assert dict(evaluate(model, task, data)) == pytest.approx(dict(expected), abs=1e-6)


def test_evaluate__keeps_no_batch_whatever_their_number():
    model, alive, given = segmenter(), [], []

    def many():
        for pictures, labels in batches(PLACES, 40):
            alive.append(sum(one() is not None for one in given))
            given.extend([weakref.ref(pictures), weakref.ref(labels)])
            yield pictures, labels
            del pictures, labels

    scores = evaluate(model, PLACES, many())
    assert 0 < scores["mean_iou"] < 1
    assert max(alive) <= 4  # the one before, and what proved the metrics


def check_mirrored(folder):
    """In a process of its own: TensorFlow must know of its devices before it uses one."""
    tf = tensorflow()
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    data, config = list(batches(CLASSES)), LoraConfig(r=2, target_modules=["hidden"], modules_to_save=["score"])
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = apply_lora(picture_model(), config)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fill(model)
    measured = MetricCallback(CLASSES, data)
    model.fit(pixels(8), np.arange(8) % 4, batch_size=4, verbose=0, callbacks=[measured])
    alone = apply_lora(picture_model(), config)
    alone.set_weights(model.get_weights())
    assert dict(measured.scores) == pytest.approx(dict(evaluate(alone, CLASSES, data)), abs=1e-5)
    save_bundle(folder, model, describe(model, CLASSES, Preprocessing(resize=(12, 12)), (12, 12)))
    again = load_bundle(folder, base=picture_model())
    np.testing.assert_allclose(output(again, pixels()), output(alone, pixels()), atol=1e-5)


@once
def test_model_on_several_devices__is_measured_and_bundled_as_on_one(tmp_path):
    code = (
        "import lumora.integrations.keras.library\n"
        "from tests.keras.test_evaluating import check_mirrored\n"
        f"check_mirrored({str(tmp_path / 'bundle')!r})\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_mean_iou__is_that_of_the_definition():
    model, data = segmenter(), list(batches(PLACES))
    said = [
        value(keras.ops.image.resize(model(given), (12, 16), interpolation="bilinear")).argmax(-1) for given, _ in data
    ]
    said, meant = np.concatenate(said), np.concatenate([labels for _, labels in data])
    counting = meant != 255
    ious = [
        ((said == k) & (meant == k) & counting).sum() / (((said == k) | (meant == k)) & counting).sum()
        for k in range(4)
    ]
    assert evaluate(model, PLACES, data)["mean_iou"] == pytest.approx(np.mean(ious), abs=2e-3)


def test_metric_callback__puts_scores_into_the_logs_that_later_callbacks_see():
    data = list(batches(CLASSES, 2))
    model = picture_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen = []
    callbacks = [
        MetricCallback(CLASSES, data, every=2),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs.get("val_accuracy"))),
    ]
    history = model.fit(pixels(8), np.arange(8) % 4, epochs=4, verbose=0, callbacks=callbacks)
    assert [score is None for score in seen] == [True, False, True, False]
    assert history.history["val_accuracy"] == [seen[1], seen[3]]
    assert callbacks[0].scores["accuracy"] == evaluate(model, CLASSES, data)["accuracy"]


def ending(*last):
    layers = [keras.Input((12, 12, 3)), keras.layers.GlobalAveragePooling2D(), *last]
    return keras.Sequential(layers)


PROBABLE = {
    "dense": lambda: ending(keras.layers.Dense(4, activation="softmax", name="score")),
    "sigmoid": lambda: ending(keras.layers.Dense(4, activation="sigmoid")),
    "function of ops": lambda: ending(keras.layers.Dense(4, activation=keras.ops.softmax)),
    "sigmoid of ops": lambda: ending(keras.layers.Dense(4, activation=keras.ops.sigmoid)),
    "layer as activation": lambda: ending(keras.layers.Dense(4, activation=keras.layers.Softmax())),
    "layer with a function": lambda: ending(keras.layers.Dense(4), keras.layers.Activation(keras.ops.softmax)),
    "activation": lambda: ending(keras.layers.Dense(4), keras.layers.Activation("softmax")),
    "layer": lambda: ending(keras.layers.Dense(4), keras.layers.Softmax()),
    "reshaped": lambda: ending(keras.layers.Dense(4), keras.layers.Softmax(), keras.layers.Reshape((2, 2))),
    "nested": lambda: ending(keras.Sequential([keras.layers.Dense(4), keras.layers.Softmax()])),
    "operation": lambda: keras.Model(
        given := keras.Input((12, 12, 3)), keras.ops.softmax(keras.layers.Dense(4)(keras.layers.Flatten()(given)))
    ),
}


@pytest.mark.parametrize("name", PROBABLE)
def test_model_that_gives_probabilities__is_refused(name):
    with pytest.raises(MetricError, match=r"probabilities, not logits.*classifier_activation=None"):
        evaluate(PROBABLE[name](), CLASSES, list(batches(CLASSES)))


@once
def test_model_that_ends_in_tensorflows_softmax__is_refused():
    with pytest.raises(MetricError, match="'score' ends in a softmax"):
        evaluate(ending(keras.layers.Dense(4, activation=tensorflow().nn.softmax, name="score")), CLASSES, [])


def test_application__as_keras_builds_it_is_refused():
    model = keras.applications.MobileNet((32, 32, 3), 0.25, weights=None, classes=4)
    with pytest.raises(MetricError, match="'predictions' ends in a softmax"):
        evaluate(model, CLASSES, [])


def test_model_that_gives_probabilities__gets_no_bundle():
    with pytest.raises(MetricError, match="'score' ends in a softmax"):
        describe(PROBABLE["dense"](), CLASSES, Preprocessing(resize=(12, 12)), (12, 12))


def test_probabilities_beside_logits__are_left_alone():
    given = keras.Input((12, 12, 3))
    logits = keras.layers.Dense(4)(keras.layers.Flatten()(given))
    model = keras.Model(given, {"probabilities": keras.layers.Softmax()(logits), "logits": logits})
    assert 0 <= evaluate(model, CLASSES, list(batches(CLASSES)))["accuracy"] <= 1


def test_softmax_inside_a_model__is_none_of_its_end():
    model = ending(keras.layers.Dense(4, activation="softmax"), keras.layers.Dense(4))
    assert 0 <= evaluate(model, CLASSES, list(batches(CLASSES)))["accuracy"] <= 1


def test_batches_of_another_form__are_refused():
    with pytest.raises(MetricError, match="should be \\(pictures, labels\\)"):
        evaluate(picture_model(), CLASSES, [pixels()])
    with pytest.raises(MetricError, match="at least 1"):
        MetricCallback(CLASSES, [], every=0)
