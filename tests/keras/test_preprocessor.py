"""Models of KerasHub that prepare pictures themselves, where those of ours are prepared already."""

import json

import numpy as np
import pytest
import torch
from tests.keras.making import fill, output, picture_model, pixels, vit

from lumora import LoraConfig
from lumora.data import Labels
from lumora.errors import LumoraWarning, TrainingError
from lumora.integrations.keras import (
    BundleCallback,
    InTorch,
    MetricCallback,
    apply_lora,
    describe,
    evaluate,
    load_bundle,
    save_bundle,
)
from lumora.integrations.keras.library import keras, keras_hub
from lumora.models import Preprocessing
from lumora.tasks import Classification

TASK = Classification(Labels(("a", "b", "c", "d", "e")))
CONFIG = LoraConfig(r=2, target_modules=["query"], modules_to_save=["predictions"])


def preprocessor(**converting):
    hub = keras_hub()
    converter = hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 255, offset=-0.5) if converting else None
    return hub.models.ViTImageClassifierPreprocessor(image_converter=converter)


def with_preprocessor():
    """As `from_preset` gives it, if it is not told otherwise."""
    model = vit()
    model.preprocessor = preprocessor(converting=True)
    return model


def test_prepared_pictures__are_not_prepared_twice():
    plain, model, given = vit(), with_preprocessor(), pixels(side=32)
    assert np.abs(model.predict_on_batch(given) - plain.predict_on_batch(given)).max() > 1e-3  # KerasHub's own way
    logits = InTorch(model)(torch.from_numpy(given).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits, output(plain, given), atol=1e-5)
    labels = output(plain, given).argmax(-1)
    assert evaluate(model, TASK, [(given, labels)])["accuracy"] == 1


def test_bundle__of_a_model_with_a_preprocessor_predicts_without_it(tmp_path):
    with pytest.warns(LumoraWarning, match=r"has a preprocessor.*preprocessor=None"):
        model = apply_lora(with_preprocessor(), CONFIG)
    fill(model)
    with pytest.warns(LumoraWarning, match=r"has a preprocessor"):
        about = describe(model, TASK, Preprocessing(resize=(32, 32)), (32, 32))
    save_bundle(tmp_path, model, about)
    assert json.loads((tmp_path / "lumora.json").read_text())["base"]["fingerprint"]
    again = load_bundle(tmp_path, base=vit())  # the preprocessor is no part of the base
    model.preprocessor = None
    np.testing.assert_allclose(output(again, pixels(side=32)), output(model, pixels(side=32)), atol=1e-5)


@pytest.mark.parametrize("make", [lambda p: MetricCallback(TASK, []), lambda p: BundleCallback(p, lambda *_: None)])
def test_fit__with_callbacks_of_ours_refuses_a_preprocessor(make, tmp_path):
    model = with_preprocessor()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(TrainingError, match=r"model.preprocessor = None"):
        model.fit(pixels(4, 32), np.zeros(4, "int32"), verbose=0, callbacks=[make(tmp_path / "bundle")])


def test_preprocessor_that_changes_nothing__is_none(recwarn):
    model = vit()
    model.preprocessor = preprocessor()
    apply_lora(model, CONFIG)
    apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"]))
    assert not [w for w in recwarn if "preprocessor" in str(w.message)]
