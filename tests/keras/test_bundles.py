"""Adapters and bundles of Keras models, written, read in another model, and used by `lumora.load`."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import torch
from PIL import Image
from tests.keras.making import fill, once, output, picture_model, pixels, twice, value, vit

import lumora
from lumora import LoraConfig, get_peft_model
from lumora.bundle.merging import merge
from lumora.bundle.soup import soup
from lumora.data import Labels
from lumora.errors import AdapterFileError, BundleError, TargetError
from lumora.integrations.keras import (
    apply_lora,
    count_parameters,
    describe,
    layers_of,
    load_adapter,
    load_bundle,
    merge_lora,
    save_adapter,
    save_bundle,
    set_strength,
)
from lumora.integrations.keras.files import put_adapter, tensors_of
from lumora.lora import set_peft_model_state_dict
from lumora.models import Preprocessing
from lumora.predict import load_several
from lumora.tasks import Classification, Segmentation

TASK = Classification(Labels(("fox", "otter", "owl", "newt")))
SEEN = Preprocessing(resize=(12, 12), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2))
CONFIG = LoraConfig(
    r=2,
    target_modules=["first", "second", "hidden"],
    modules_to_save=["score"],
    bias="lora_only",
    rank_pattern={"second": 3},
    batch_norm="saved",
)


def trained():
    model = apply_lora(picture_model(), CONFIG)
    fill(model)
    model.get_layer("norm").moving_mean.assign(np.arange(6) / 10)
    return model


def test_adapter__gives_the_same_outputs_after_it_was_read(tmp_path):
    model, given = trained(), pixels()
    save_adapter(model, tmp_path)
    again = load_adapter(picture_model(), tmp_path)
    np.testing.assert_allclose(output(again, given), output(model, given), atol=1e-6)
    assert again.trainable_variables == []
    assert len(load_adapter(picture_model(), tmp_path, is_trainable=True).trainable_variables) > 0


def test_adapter__lies_as_in_torch(tmp_path):
    """A is (r, inputs), B is (outputs, r): what PEFT's readers expect."""
    model = trained()
    shapes = {key.removeprefix("base_model.model."): tuple(t.shape) for key, t in tensors_of(model).items()}
    assert shapes["first.lora_A.weight"] == (2, 3, 3, 3)
    assert shapes["first.lora_B.weight"] == (6, 2, 1, 1)
    assert shapes["second.lora_A.weight"] == (3, 6, 3, 3)
    assert shapes["hidden.lora_A.weight"] == (2, 8)
    assert shapes["hidden.lora_B.weight"] == (10, 2)
    assert {"score.kernel", "score.bias", "hidden.bias", "norm.moving_mean"} <= set(shapes)


def test_adapter_of_a_transposed_convolution__computes_the_same_in_torch():
    keras.utils.set_random_seed(1)
    layer = keras.layers.Conv2DTranspose(5, 3, strides=2, name="up")
    model = apply_lora(keras.Sequential([keras.Input((6, 7, 3)), layer]), LoraConfig(r=2, target_modules=["up"]))
    fill(model)
    there = torch.nn.Sequential()
    there.add_module("up", torch.nn.ConvTranspose2d(3, 5, 3, stride=2))
    there.up.weight.data = torch.from_numpy(value(layer.kernel).transpose(3, 2, 0, 1).copy())
    there.up.bias.data = torch.from_numpy(value(layer.bias))
    there = get_peft_model(there, LoraConfig(r=2, target_modules=["up"]))
    set_peft_model_state_dict(there, tensors_of(model))
    given = np.random.default_rng(1).normal(size=(2, 6, 7, 3)).astype("float32")
    with torch.no_grad():
        expected = there(torch.from_numpy(given).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(output(model, given), expected.numpy(), atol=1e-5)


def test_adapter_for_another_model__is_refused_and_leaves_it_alone(tmp_path):
    save_adapter(trained(), tmp_path)
    other, given = picture_model(classes=7), pixels()
    before = output(other, given)
    with pytest.raises(AdapterFileError, match=r"score\.kernel: \(10, 4\) instead of \(10, 7\)"):
        load_adapter(other, tmp_path)
    np.testing.assert_array_equal(output(other, given), before)


def test_adapter_that_does_not_fit__leaves_trained_what_was_trained(tmp_path):
    save_adapter(trained(), tmp_path)
    other = picture_model(classes=7)
    for name in ("norm", "first"):
        other.get_layer(name).trainable = False
    other.get_layer("hidden").bias.trainable = False

    def training():
        layers, variables = (other, *layers_of(other).values()), other.variables
        return [(one.name, one.trainable) for one in (*layers, *variables)]

    before = training()
    with pytest.raises(AdapterFileError):
        load_adapter(other, tmp_path)
    assert training() == before


def about(model, base=None):
    return describe(model, TASK, SEEN, (12, 12), base=base, metrics={"accuracy": 0.5})


def expected_logits(model, picture):
    pixels = (picture.astype("float32") / 255 - np.array(SEEN.mean)) / np.array(SEEN.std)
    return value(model(pixels[None].astype("float32")))[0]


def test_bundle__predicts_with_lumora_load(tmp_path):
    model = trained()
    save_bundle(tmp_path / "bundle", model, about(model))
    picture = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    prediction = lumora.load(tmp_path / "bundle", base=picture_model()).predict(picture)
    logits = expected_logits(model, picture)
    likely = np.exp(logits - logits.max())
    np.testing.assert_allclose(prediction.probabilities.numpy(), likely / likely.sum(), atol=1e-4)
    assert prediction.chosen == (int(logits.argmax()),)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_bundle__predicts_with_a_part_of_its_strength(tmp_path, strength):
    model = trained()
    save_bundle(tmp_path / "bundle", model, about(model))
    predictor = lumora.load(tmp_path / "bundle", base=picture_model())
    picture = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    as_trained = predictor.predict(picture).probabilities.numpy()
    for name in ("first", "second", "hidden"):  # B A with a B so much smaller is an update so much smaller
        factor = model.get_layer(name).lora.b
        factor.assign(value(factor) * strength)
    likely = np.exp(expected_logits(model, picture))
    predictor.set_strength(strength)
    weaker = predictor.predict(picture).probabilities.numpy()
    np.testing.assert_allclose(weaker, likely / likely.sum(), atol=1e-4)
    assert np.abs(weaker - as_trained).max() > 1e-3
    predictor.set_strength(1.0)
    np.testing.assert_allclose(predictor.predict(picture).probabilities.numpy(), as_trained, atol=1e-6)


def test_bundle__is_written_as_it_was_trained_whatever_the_strength(tmp_path):
    model, given = trained(), pixels()
    as_trained = output(model, given)
    set_strength(model, 0.5)
    weaker = output(model, given)
    save_bundle(tmp_path / "bundle", model, about(model))
    np.testing.assert_array_equal(output(model, given), weaker)
    again = load_bundle(tmp_path / "bundle", base=picture_model())
    np.testing.assert_allclose(output(again, given), as_trained, atol=1e-6)
    assert np.abs(as_trained - weaker).max() > 1e-3


def test_bundle__can_be_trained_further(tmp_path):
    model, given = trained(), pixels(8)
    save_bundle(tmp_path / "bundle", model, about(model))
    frozen = load_bundle(tmp_path / "bundle", base=picture_model())
    again = load_bundle(tmp_path / "bundle", base=picture_model(), is_trainable=True)
    assert count_parameters(frozen)[0] == 0
    assert count_parameters(again) == count_parameters(model)
    np.testing.assert_allclose(output(again, given), output(model, given), atol=1e-6)
    for one in (model, again):
        one.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        one.fit(given, np.arange(8) % 4, verbose=0, shuffle=False)
    np.testing.assert_allclose(output(again, given), output(model, given), atol=1e-4)
    assert np.abs(output(again, given) - output(frozen, given)).max() > 1e-3


@twice
def test_bundle__on_a_file_is_verified_and_loaded_by_its_name(tmp_path):
    base = picture_model()
    base.save(tmp_path / "base.keras")
    model = trained()
    save_bundle(tmp_path / "bundle", model, about(model, f"keras:{tmp_path / 'base.keras'}"))
    again = load_bundle(tmp_path / "bundle")
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-5)
    assert json.loads((tmp_path / "bundle/lumora.json").read_text())["base"]["library"] == "keras"


def test_bundle__of_a_fully_trained_model_holds_all_weights(tmp_path):
    model = picture_model()
    fill(model)
    save_bundle(tmp_path / "bundle", model, about(model))
    again = load_bundle(tmp_path / "bundle", base=picture_model())
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-6)


def test_bundle__of_kerashubs_vit(tmp_path):
    model = apply_lora(
        vit(classes=4), LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["predictions"])
    )
    fill(model)
    save_bundle(tmp_path / "bundle", model, describe(model, TASK, SEEN, (32, 32)))
    again = load_bundle(tmp_path / "bundle", base=vit(classes=4))
    np.testing.assert_allclose(output(again, pixels(side=32)), output(model, pixels(side=32)), atol=1e-6)


def test_several_bundles__predict_each_with_its_own_adapter(tmp_path):
    given = Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8))
    for seed in (3, 4):
        model = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"], modules_to_save=["score"]))
        fill(model, seed=seed)
        save_bundle(tmp_path / str(seed), model, about(model))
    alone = [lumora.load(tmp_path / name, base=picture_model()).predict(given) for name in ("3", "4")]
    together = [one.predict(given) for one in load_several([tmp_path / "3", tmp_path / "4"], base=picture_model())]
    assert not torch.allclose(alone[0].probabilities, alone[1].probabilities, atol=1e-3)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities, rtol=0, atol=1e-5)


def test_bundle_on_another_base__is_refused(tmp_path):
    model = trained()
    save_bundle(tmp_path / "bundle", model, about(model))
    other = picture_model()
    other.get_layer("hidden").kernel.assign(np.zeros((8, 10)))
    with pytest.raises(BundleError, match="its weights are others"):
        load_bundle(tmp_path / "bundle", base=other)
    with pytest.raises(BundleError, match="give it again: base=model"):
        load_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="base is a Linear"):
        lumora.load(tmp_path / "bundle", base=torch.nn.Linear(2, 2))


def test_damaged_bundle__is_refused(tmp_path):
    model = trained()
    save_bundle(tmp_path / "bundle", model, about(model))
    path = tmp_path / "bundle/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="not as it was written"):
        load_bundle(tmp_path / "bundle", base=picture_model())


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("precision", ["bfloat16", "mixed_bfloat16"])
def test_bundle__of_a_model_of_short_numbers(tmp_path, precision, method):
    def short():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(precision)
        try:
            return picture_model()
        finally:
            keras.config.set_dtype_policy(before)

    model = apply_lora(short(), CONFIG) if method == "lora" else short()
    fill(model, scale=0.1)
    save_bundle(tmp_path / "bundle", model, about(model))
    again = load_bundle(tmp_path / "bundle", base=short())
    np.testing.assert_array_equal(output(again, pixels()).astype("f4"), output(model, pixels()).astype("f4"))
    if method == "lora":
        stored = tensors_of(again)["base_model.model.score.kernel"]
        assert stored.dtype == (torch.bfloat16 if precision == "bfloat16" else torch.float32)


@keras.saving.register_keras_serializable("tests")
class Shifted(keras.Model):
    """Holds a weight of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.score = keras.layers.Dense(4, name="score")

    def build(self, shape):
        self.shift = self.add_weight(shape=(3,), initializer="zeros", name="shift")
        self.score.build((None, 3))

    def call(self, inputs):
        return self.score(keras.ops.mean(inputs, (1, 2)) + self.shift)


def shifted(by=0.0):
    keras.utils.set_random_seed(3)
    model = Shifted(name="shifted")
    model.build((None, 12, 12, 3))
    model.shift.assign(np.full(3, by))
    return model


def test_weights_that_a_model_itself_holds__are_its_own_too(tmp_path):
    whole = shifted(0.5)
    save_bundle(tmp_path / "whole", whole, about(whole))
    again = load_bundle(tmp_path / "whole", base=shifted())
    np.testing.assert_allclose(output(again, pixels()), output(whole, pixels()), atol=1e-6)
    model = apply_lora(shifted(0.5), LoraConfig(r=2, target_modules=["score"]))
    save_bundle(tmp_path / "adapted", model, about(model))
    with pytest.raises(BundleError, match="its weights are others"):
        load_bundle(tmp_path / "adapted", base=shifted(0.25))


@keras.saving.register_keras_serializable("tests")
class Pooled(keras.Model):
    """Is built when it computes first; its layers have no names but those of its attributes."""

    def __init__(self, classes=4, **options):
        super().__init__(**options)
        self.classes = classes
        self.encoder = keras.layers.Conv2D(6, 4, strides=4)
        self.mean = keras.layers.GlobalAveragePooling2D()
        self.head = keras.layers.Dense(classes)

    def call(self, inputs):
        return self.head(self.mean(self.encoder(inputs)))

    def get_config(self):
        return {"classes": self.classes}


def pooled():
    keras.utils.set_random_seed(3)
    model = Pooled()
    model(pixels())
    return model


@pytest.mark.parametrize("method", ["lora", "full"])
def test_bundle__of_a_subclass_that_was_built_by_a_call(tmp_path, method):
    config = LoraConfig(r=2, target_modules=["encoder"], modules_to_save=["head"])
    model = apply_lora(pooled(), config) if method == "lora" else pooled()
    fill(model)
    save_bundle(tmp_path / "bundle", model, about(model))
    again = load_bundle(tmp_path / "bundle", base=pooled())
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-6)


def functional(make=keras.Model):
    """Layers without names, held by attributes that no configuration knows."""
    keras.utils.set_random_seed(3)
    given, encoder, head = keras.Input((12, 12, 3)), keras.layers.Conv2D(6, 4, strides=4), keras.layers.Dense(4)
    model = make(given, head(keras.layers.GlobalAveragePooling2D()(encoder(given))))
    model.encoder, model.head = encoder, head
    return model


def test_bundle__of_a_functional_model_with_attributes(tmp_path):
    model = apply_lora(functional(), LoraConfig(r=2, target_modules=["conv2d"], modules_to_save=["dense"]))
    fill(model)
    save_bundle(tmp_path / "bundle", model, about(model))
    again = load_bundle(tmp_path / "bundle", base=functional())
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class OwnFunctional(keras.Model):
    """Named otherwise by its attributes than what is made again from its configuration."""


def test_model_with_other_names_when_it_is_made_again__is_refused(tmp_path):
    model = functional(OwnFunctional)
    with pytest.raises(BundleError, match=r"no encoder\.kernel.*but conv2d\.kernel.*names of their own"):
        save_bundle(tmp_path / "bundle", model, about(model))


def test_model_around_an_adapted_one__is_refused_with_a_way_out(tmp_path):
    def around(inner):
        return keras.Sequential([keras.Input((12, 12, 3)), inner, keras.layers.Dense(4, name="last")])

    inner = picture_model()
    before = around(inner)
    described = about(before)
    apply_lora(inner, LoraConfig(r=2, target_modules=["hidden"]))
    for refused in (lambda: about(around(inner)), lambda: save_bundle(tmp_path / "bundle", before, described)):
        with pytest.raises(BundleError, match=r"hidden' in it has an adapter.*apply_lora on the whole.*merge_lora"):
            refused()
    merge_lora(inner)
    save_bundle(tmp_path / "bundle", before, about(before))


@once
def test_base_in_a_file__is_noted_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = trained()
    with pytest.raises(BundleError, match=r"no file base\.keras; model\.save\('base\.keras'\)"):
        about(model, "keras:base.keras")
    picture_model().save("base.keras")
    assert about(model, "keras:base.keras").base.name == f"keras:{tmp_path / 'base.keras'}"
    save_bundle("bundle", model, about(model, "keras:base.keras"))
    (tmp_path / "base.keras").rename(tmp_path / "moved.keras")
    with pytest.raises(BundleError, match=r"say where: base='keras:path/to/base\.keras'"):
        load_bundle("bundle")
    again = load_bundle("bundle", base="keras:moved.keras")
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-5)


def test_bundle__is_not_for_what_works_on_torch_models(tmp_path):
    model = trained()
    save_bundle(tmp_path / "bundle", model, about(model))
    with pytest.raises(BundleError, match=r"is a Keras bundle.*merge_lora"):
        merge(tmp_path / "bundle", tmp_path / "plain", base=picture_model())
    assert not (tmp_path / "plain").exists()
    with pytest.raises(BundleError, match="is a Keras bundle"):
        soup([tmp_path / "bundle"] * 2, tmp_path / "soup", base=picture_model())


def stored_with_start(folder, start):
    """An adapter whose file says that it began so, as one of torch may."""
    model = apply_lora(picture_model(), replace(CONFIG, rank_pattern={}))
    fill(model)
    save_adapter(model, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "init_lora_weights": start}))
    return model


@pytest.mark.parametrize("start", ["eva", "orthogonal"])
def test_adapter_with_another_start__is_read(tmp_path, start):
    model = stored_with_start(tmp_path, start)
    again = load_adapter(picture_model(), tmp_path, is_trainable=True)
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-6)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_adapter_that_holds_a_part_of_the_base__is_refused(tmp_path, start):
    stored_with_start(tmp_path, start)
    with pytest.raises(AdapterFileError, match="path_initial_model_for_weight_conversion"):
        load_adapter(picture_model(), tmp_path)


def test_adapter_with_all_biases__may_predict_beside_frozen_norms():
    config = replace(CONFIG, bias="all", batch_norm="saved")
    model = apply_lora(picture_model(), config)
    fill(model)
    tensors = {key: one for key, one in tensors_of(model).items() if "moving" not in key}
    frozen = replace(config, batch_norm="frozen")
    again = put_adapter(picture_model(), frozen, tensors)
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-6)
    with pytest.raises(TargetError, match="batch norms such as 'norm'"):
        put_adapter(picture_model(), frozen, tensors, is_trainable=True)


def places():
    keras.utils.set_random_seed(5)
    layers = [keras.Input((12, 16, 3)), keras.layers.Conv2D(4, 3, strides=4, padding="same", name="places")]
    return keras.Sequential(layers)


def test_segmentation__draws_with_the_palette(tmp_path):
    model = apply_lora(places(), LoraConfig(r=2, target_modules=["places"]))
    fill(model)
    task = Segmentation(Labels(("sky", "sea", "land", "wood"), ((0, 0, 9), (0, 9, 0), (9, 0, 0), (9, 9, 9))))
    save_bundle(tmp_path, model, describe(model, task, Preprocessing(resize=(12, 16)), (12, 16)))
    predictor = lumora.load(tmp_path, base=places())
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    prediction = predictor.predict(picture)
    assert prediction.mask.shape == (30, 40)
    assert predictor.labels.palette() == task.labels.colours
    alone = predictor.draw(picture, type(prediction)(torch.zeros(30, 40, dtype=torch.uint8)))
    assert not torch.equal(predictor.draw(picture, prediction)[:, :30, :40], alone[:, :30, :40])


@once
def test_tensorflow_before_torch__is_told_plainly():
    code = "import tensorflow\nimport lumora.integrations.keras.library\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "import triton" in done.stderr.splitlines()[-1]
