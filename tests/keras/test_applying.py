"""Adapters in Keras models: what they compute, what is trained, what is refused."""

import copy
import pickle

import keras
import numpy as np
import pytest
from tests.keras.making import fill, in_graphs, not_on_tensorflow, output, picture_model, pixels, value, vit

from lumora import LoraConfig
from lumora.errors import AdapterError, NoMatchingPeftModuleError, TargetError
from lumora.integrations.keras import (
    apply_lora,
    count_parameters,
    layers_of,
    merge_lora,
    print_trainable_parameters,
    remove_lora,
    set_strength,
)

RANDOM = np.random.default_rng(7)


def numbers(*shape):
    return RANDOM.normal(size=shape).astype("float32")


LAYERS = {
    "dense": (lambda: keras.layers.Dense(5, activation="relu", name="x"), (3, 4)),
    "dense, no bias": (lambda: keras.layers.Dense(5, use_bias=False, name="x"), (3, 2, 4)),
    "einsum to heads": (
        lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", name="x"),
        (2, 3, 4),
    ),
    "einsum from heads": (
        lambda: keras.layers.EinsumDense("abcd,cde->abe", (None, 6), bias_axes="e", name="x"),
        (2, 3, 2, 4),
    ),
    "einsum with dots": (lambda: keras.layers.EinsumDense("...x,xy->...y", 5, activation="tanh", name="x"), (2, 3, 4)),
    "einsum, turned": (lambda: keras.layers.EinsumDense("abc,dc->abd", (None, 5), name="x"), (2, 3, 4)),
    "embedding": (lambda: keras.layers.Embedding(7, 5, name="x"), None),
    "conv1d, causal": (lambda: keras.layers.Conv1D(5, 3, padding="causal", name="x"), (2, 8, 3)),
    "conv2d, strided": (
        lambda: keras.layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", name="x"),
        (2, 9, 9, 3),
    ),
    "conv2d, dilated": (lambda: keras.layers.Conv2D(5, 3, dilation_rate=2, name="x"), (2, 9, 9, 3)),
    "conv3d": (lambda: keras.layers.Conv3D(4, 2, use_bias=False, name="x"), (1, 4, 4, 4, 2)),
    "conv1d, transposed": (lambda: keras.layers.Conv1DTranspose(5, 3, strides=2, name="x"), (2, 6, 3)),
    "conv2d, transposed": (
        lambda: keras.layers.Conv2DTranspose(5, 4, strides=2, padding="same", activation="relu", name="x"),
        (2, 5, 6, 3),
    ),
    "conv2d, transposed to odd sizes": (
        lambda: keras.layers.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=0, name="x"),
        (2, 5, 6, 3),
    ),
    "conv3d, transposed": (lambda: keras.layers.Conv3DTranspose(4, 2, use_bias=False, name="x"), (1, 3, 3, 3, 2)),
}


def layer_and_inputs(name):
    make, shape = LAYERS[name]
    inputs = RANDOM.integers(0, 7, (2, 3)) if shape is None else numbers(*shape)
    layer = make()
    given = keras.Input(inputs.shape[1:], dtype="int32" if shape is None else "float32")
    model = keras.Model(given, layer(given))
    for variable in model.weights:
        variable.assign(numbers(*variable.shape))
    return model, layer, inputs


@pytest.mark.parametrize("name", LAYERS)
def test_adapted_layer__computes_with_the_updated_kernel(name):
    model, layer, inputs = layer_and_inputs(name)
    plain, plain_layer, _ = layer_and_inputs(name)
    plain.set_weights(model.get_weights())
    before = output(model, inputs)
    apply_lora(model, LoraConfig(r=2, lora_alpha=3, target_modules=["x"]))
    np.testing.assert_allclose(output(model, inputs), before, atol=1e-5)
    fill(model)
    weight = plain_layer.embeddings if name == "embedding" else plain_layer.kernel
    a, b = value(layer.lora.a), value(layer.lora.b)
    if "transposed" in name:  # its kernel has the inputs last, and so has A
        update = 1.5 * np.tensordot(a, b, axes=(-2, 0)).swapaxes(-1, -2)
    else:
        update = 1.5 * np.tensordot(a, b, axes=(-1, 0))
    if name == "einsum, turned":
        update = update.T
    weight.assign(value(weight) + update)
    np.testing.assert_allclose(output(model, inputs), output(plain, inputs), rtol=1e-4, atol=1e-4)
    merge_lora(model)
    np.testing.assert_allclose(output(model, inputs), output(plain, inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dense", "einsum to heads", "conv2d, strided", "embedding"])
def test_dropout__acts_in_training_only_and_on_the_update_only(name):
    model, _, inputs = layer_and_inputs(name)
    before = value(model(inputs, training=True))
    apply_lora(model, LoraConfig(r=2, lora_dropout=0.5, target_modules=["x"]))
    np.testing.assert_allclose(value(model(inputs, training=True)), before, atol=1e-5)  # the update is 0 still
    fill(model, scale=2.0)
    calm = [value(model(inputs, training=False)) for _ in range(2)]
    wild = [value(model(inputs, training=True)) for _ in range(2)]
    np.testing.assert_array_equal(calm[0], calm[1])
    assert np.abs(wild[0] - wild[1]).max() > 0.01


def test_trained__are_adapters_biases_and_saved_layers_only():
    def trained(**options):
        model = picture_model()
        apply_lora(model, LoraConfig(r=2, target_modules=["first", "hidden"], **options))
        return model, sorted(variable.path.split("/", 1)[-1] for variable in model.trainable_variables)

    adapters = 2 * (3 * 3 * 3 + 6) + 2 * (8 + 10)
    model, _ = trained()
    assert count_parameters(model)[0] == adapters
    model, _ = trained(bias="lora_only")
    assert count_parameters(model)[0] == adapters + 6 + 10
    model, _ = trained(modules_to_save=["score"])
    assert count_parameters(model)[0] == adapters + 10 * 4 + 4
    model, _ = trained(bias="all", batch_norm="saved")
    assert count_parameters(model)[0] == adapters + 6 + 6 + 8 + 10 + 4
    assert count_parameters(model)[1] == picture_model().count_params() - 2 * 6 + adapters  # statistics are none


def test_ranks_and_scales__follow_patterns_and_rslora():
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=["query", "value"],
        rank_pattern={"value": 2},
        alpha_pattern={r".*block_2\.mha\.query": 3},
    )
    layers = layers_of(apply_lora(vit(), config))
    adapters = {path: layer.lora for path, layer in layers.items() if hasattr(layer, "lora")}
    found = {path.split("transformer_")[1]: (one.r, one.scaling) for path, one in adapters.items()}
    assert found == {
        "block_1.mha.query": (4, 8 / 4**0.5),
        "block_1.mha.value": (2, 8 / 2**0.5),
        "block_2.mha.query": (4, 3 / 4**0.5),
        "block_2.mha.value": (2, 8 / 2**0.5),
    }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"target_modules": ["query"]}, ["block_1.mha.query", "block_2.mha.query"]),
        ({"target_modules": ["query"], "layers_to_transform": [1]}, ["block_2.mha.query"]),
        (
            {"target_modules": ["query", "value"], "exclude_modules": ["value"], "layers_to_transform": 0},
            ["block_1.mha.query"],
        ),
        ({"target_modules": r".*block_2\.mlp\.dense_\d"}, ["block_2.mlp.dense_1", "block_2.mlp.dense_2"]),
        ({"target_modules": None, "layers_to_transform": 0}, ["block_1.mha.query", "block_1.mha.value"]),
        (
            {"target_modules": "all-linear", "exclude_modules": r".*block_1.*"},
            [
                f"block_2.{n}"
                for n in ("mha.attention_output", "mha.key", "mha.query", "mha.value", "mlp.dense_1", "mlp.dense_2")
            ],
        ),
    ],
)
def test_targets__are_chosen_by_the_rules_of_the_torch_engine(config, expected):
    model = apply_lora(vit(), LoraConfig(r=2, **config))
    adapted = [path for path, layer in layers_of(model).items() if hasattr(layer, "lora")]
    assert sorted(path.split("transformer_")[-1] for path in adapted) == expected


def test_all_linear__leaves_out_the_head():
    model = apply_lora(picture_model(), LoraConfig(r=2, target_modules="all-linear"))
    assert [path for path, layer in layers_of(model).items() if hasattr(layer, "lora")] == ["hidden"]


def ending_with(*last):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(8, name="hidden"), *last])


def score():
    return keras.layers.Dense(3, name="score")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ending_with(score(), keras.layers.Activation("linear", dtype="float32")),
        lambda: ending_with(keras.Sequential([keras.Input((8,)), score()], name="top")),
        lambda: ending_with(keras.Sequential([keras.Input((8,)), score(), keras.layers.Dropout(0.1)], name="top")),
        lambda: ending_with(score(), keras.layers.Softmax()),
        lambda: keras.Model(given := keras.Input((8,)), keras.ops.cast(ending_with(score())(given), "float32")),
    ],
    ids=["activation", "nested", "nested with dropout", "softmax", "cast"],
)
def test_all_linear__leaves_out_the_head_behind_what_only_shapes_its_outputs(make):
    model = apply_lora(make(), LoraConfig(r=2, target_modules="all-linear"))
    adapted = [path for path, layer in layers_of(model).items() if hasattr(layer, "lora")]
    assert [path.split(".")[-1] for path in adapted] == ["hidden"]


class Odd(keras.layers.Dense):
    pass


def grouped():
    return keras.Sequential([keras.Input((8, 8, 4)), keras.layers.Conv2D(4, 3, groups=2, name="x")])


def depthwise():
    return keras.Sequential([keras.Input((8, 8, 4)), keras.layers.DepthwiseConv2D(3, name="x")])


def shared_axis():
    return keras.Sequential([keras.Input((3, 4)), keras.layers.EinsumDense("abc,bcd->abd", (3, 5), name="x")])


def native():
    model = picture_model()
    model.get_layer("hidden").enable_lora(2)
    return model


REFUSED = [
    (picture_model, {"target_modules": ["hiden"]}, "nothing in the model matches 'hiden' (did you mean 'hidden'?)"),
    (picture_model, {"target_modules": ["hidden", "hiden"]}, "nothing is called 'hiden'"),
    (picture_model, {"target_modules": ["norm"]}, "BatchNormalization cannot be adapted"),
    (picture_model, {"target_modules": ["hidden"], "modules_to_save": ["scores"]}, "did you mean 'score'"),
    (
        picture_model,
        {"target_modules": ["hidden"], "modules_to_save": ["hidden"]},
        "adapted or trained whole, not both",
    ),
    (picture_model, {"target_modules": ["hidden"], "use_dora": True}, "use_dora"),
    (picture_model, {"target_modules": ["hidden"], "lora_bias": True}, "lora_bias"),
    (picture_model, {"target_modules": ["hidden"], "init_lora_weights": "pissa"}, "'pissa'"),
    (picture_model, {"target_modules": ["hidden"], "task_type": "SEQ_CLS"}, "modules_to_save instead"),
    (picture_model, {"target_modules": ["hidden"], "bias": "all"}, "batch norms such as 'norm'"),
    (vit, {"target_modules": ["query"], "layers_to_transform": [1, 2]}, "no block 2; counted from 0, there are [0, 1]"),
    (picture_model, {"target_modules": None}, "Endings in this model: first (1)"),
    (grouped, {"target_modules": ["x"]}, "2 groups"),
    (depthwise, {"target_modules": ["x"]}, "DepthwiseConv2D cannot be adapted; it can be trained whole"),
    (shared_axis, {"target_modules": ["x"]}, "an axis that inputs and outputs share"),
    (native, {"target_modules": ["hidden"]}, "enable_lora"),
    (lambda: keras.Sequential([keras.Input((3,)), Odd(2, name="x")]), {"target_modules": ["x"]}, "subclass of Dense"),
    (lambda: keras.Sequential([keras.layers.Dense(2, name="x")]), {"target_modules": ["x"]}, "no weights yet"),
]


@pytest.mark.parametrize(("make", "config", "words"), REFUSED)
def test_apply_lora__refuses_with_reasons_and_changes_nothing(make, config, words):
    model = make()
    before = [(variable.path, variable.trainable) for variable in model.variables]
    with pytest.raises(TargetError) as error:
        apply_lora(model, LoraConfig(r=2, **config))
    assert words in str(error.value).replace("a kernel axis", "an axis")
    assert [(variable.path, variable.trainable) for variable in model.variables] == before


def test_apply_lora__tells_everything_at_once():
    with pytest.raises(NoMatchingPeftModuleError) as error:
        apply_lora(picture_model(), LoraConfig(target_modules=["a"], modules_to_save=["b"], use_dora=True))
    assert all(words in str(error.value) for words in ("'a'", "'b'", "use_dora"))


def test_second_adapter__is_refused():
    model = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"]))
    with pytest.raises(TargetError, match="adapters already"):
        apply_lora(model, LoraConfig(r=2, target_modules=["first"]))


def nameless():
    layers = [keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)]
    return keras.Sequential(layers)


def test_name_that_keras_made_up__is_refused_where_it_would_mean_another_layer():
    nameless()
    model = nameless()
    assert list(layers_of(model)) == ["dense", "dense_1"]
    first = model.layers[0]
    first.name = "dense_1"  # as if one had been built before
    for config in ({"target_modules": ["dense_1"]}, {"target_modules": ["dense"], "modules_to_save": ["dense_1"]}):
        with pytest.raises(TargetError, match=r"Keras calls so what has the path 'dense' here.*use 'dense'"):
            apply_lora(model, LoraConfig(r=2, **config))
    apply_lora(model, LoraConfig(r=2, target_modules="dense_1"))  # a regular expression means paths
    assert not hasattr(first, "lora")
    assert hasattr(model.layers[1], "lora")


def test_names_that_people_gave__are_no_mistake():
    twins = [keras.layers.Dense(4, name="twin"), keras.layers.Dense(4, name="twin")]

    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = twins

        def call(self, inputs):
            return self.other(self.one(inputs))

    model = Twins()
    model(numbers(1, 4))
    apply_lora(model, LoraConfig(r=2, target_modules=["twin"]))
    assert [hasattr(twin, "lora") for twin in twins] == [True, False]


def test_adapters__have_variables_of_different_paths():
    model = apply_lora(vit(), LoraConfig(r=2, target_modules=["query", "value"]))
    paths = [variable.path for variable in model.trainable_variables]
    assert len(set(paths)) == len(paths) == 8


def test_adapted_model__is_not_saved_without_its_adapters(tmp_path):
    model = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"], modules_to_save=["score"]))
    fill(model)
    (tmp_path / "model.keras").write_bytes(b"another model")
    with pytest.raises(AdapterError, match="save_adapter or save_bundle, or call merge_lora"):
        model.save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").read_bytes() == b"another model"
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(AdapterError, match="ModelCheckpoint"):
        model.fit(pixels(4), np.arange(4), verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")])
    merge_lora(model).save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-5)


def around(model, **options):
    return keras.Sequential([keras.Input(model.input_shape[1:]), model], **options)


def checkpointed(model, path):
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(pixels(4), np.arange(4), verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(path)])


SAVING = {
    "save_model": lambda model, path: keras.saving.save_model(model, path),
    "save_model of one around it": lambda model, path: keras.models.save_model(around(model), path),
    "save_model as HDF5": lambda model, path: keras.saving.save_model(model, path.with_suffix(".h5")),
    "deepcopy": lambda model, path: copy.deepcopy(model),
    "pickle": lambda model, path: pickle.dumps(model),
    "a model around it": lambda model, path: around(model).save(path),
    "a model around it as HDF5": lambda model, path: around(model).save(path.with_suffix(".h5")),
    "a checkpoint of one around it": lambda model, path: checkpointed(around(model), path),
    "a part of it": lambda model, path: keras.Model(model.inputs, model.get_layer("hidden").output).save(path),
    "clone_model": lambda model, path: keras.models.clone_model(model),
    "clone_model of one around it": lambda model, path: keras.models.clone_model(around(model)),
    "to_json": lambda model, path: model.to_json(),
}


@pytest.mark.parametrize("way", SAVING)
def test_adapters__are_left_out_by_no_way_of_saving(way, tmp_path):
    model = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"]))
    files = tmp_path / "model.keras", tmp_path / "model.h5"
    for file in files:
        file.write_bytes(b"another model")
    with pytest.raises(AdapterError, match="save_adapter or save_bundle, or call merge_lora"):
        SAVING[way](model, files[0])
    assert [file.read_bytes() for file in files] == [b"another model"] * 2
    model.summary(print_fn=lambda *_, **__: None)
    SAVING[way](remove_lora(model), tmp_path / "model.keras")


@pytest.mark.parametrize("part", ["all", "backbone"])
def test_adapters_of_a_model_that_is_made_from_sizes__are_not_left_out_either(part, tmp_path):
    model = vit()
    adapted = model if part == "all" else model.backbone
    apply_lora(adapted, LoraConfig(r=2, target_modules=["query", "value"]))
    for save in (model.save_to_preset, model.backbone.save_to_preset, lambda path: model.save(f"{path}.keras")):
        with pytest.raises(AdapterError, match="merge_lora"):
            save(str(tmp_path / "saved"))
    merge_lora(adapted)
    model.save_to_preset(str(tmp_path / "saved"))
    model.save(tmp_path / "saved.keras")


@keras.saving.register_keras_serializable("tests")
class Around(keras.Model):
    """Its configuration says nothing of what is inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inside = picture_model()

    def get_config(self):
        return {"name": self.name}

    def call(self, inputs):
        return self.inside(inputs)


def test_adapters_inside_a_model_with_a_configuration_of_its_own__are_not_left_out_either(tmp_path):
    model = Around()
    model(pixels())
    apply_lora(model.inside, LoraConfig(r=2, target_modules=["hidden"]))
    with pytest.raises(AdapterError, match="merge_lora"):
        model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    merge_lora(model.inside)
    model.save(tmp_path / "model.keras")


def test_checkpoint_of_weights__holds_the_adapters(tmp_path):
    def adapted():
        return apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"], modules_to_save=["score"]))

    model, path = adapted(), tmp_path / "best.weights.h5"
    model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kept = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model.fit(pixels(8, seed=1), np.arange(8) % 4, epochs=2, verbose=0, callbacks=[kept])
    again = adapted()
    again.load_weights(path)
    assert np.abs(output(model, pixels()) - output(picture_model(), pixels())).max() > 1e-3
    np.testing.assert_allclose(output(again, pixels()), output(model, pixels()), atol=1e-5)


def test_remove_lora__leaves_the_base():
    model, given = picture_model(), pixels()
    before, count = output(model, given), count_parameters(model)
    apply_lora(model, LoraConfig(r=2, target_modules=["hidden", "first"]))
    fill(model)
    assert np.abs(output(model, given) - before).max() > 0.01
    remove_lora(model)
    np.testing.assert_array_equal(output(model, given), before)
    assert count_parameters(model) == count
    with pytest.raises(AdapterError, match="no adapters"):
        merge_lora(model)


def with_updated_kernel(model, strength):
    """A model without adapters that has W + strength · A B in its hidden layer."""
    plain, adapter = picture_model(), model.get_layer("hidden").lora
    kernel = plain.get_layer("hidden").kernel
    kernel.assign(value(kernel) + strength * adapter.scaling * value(adapter.a) @ value(adapter.b))
    return plain


@pytest.mark.parametrize("change", ["strength", "merge", "remove"])
def test_model_around_an_adapted_one__sees_what_is_done_to_it(change):
    model = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"]))
    fill(model)
    outer, given = around(model), pixels()
    as_trained = outer.predict_on_batch(given)  # which compiles
    expected = with_updated_kernel(model, {"strength": 0.5, "merge": 1.0, "remove": 0.0}[change])
    if change == "strength":
        set_strength(model, 0.5)
    else:
        (merge_lora if change == "merge" else remove_lora)(model)
    for one in (outer, model):
        np.testing.assert_allclose(one.predict_on_batch(given), output(expected, given), atol=1e-5)
    if change == "strength":
        set_strength(model, 1.0)
        np.testing.assert_allclose(outer.predict_on_batch(given), as_trained, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Counting(keras.layers.Layer):
    """Counts how often a function of the model is made."""

    made = 0

    def call(self, inputs):
        self.made += 1
        return inputs


@in_graphs
def test_strength__makes_no_function_again_and_is_no_weight():
    model, counting = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"])), Counting()
    names = [weight.name for weight in model.weights]
    outer = keras.Sequential([keras.Input((12, 12, 3)), counting, model])
    outer.predict_on_batch(pixels())
    made = counting.made
    for strength in (0.5, 0.0, 1.0):
        set_strength(model, strength)
        outer.predict_on_batch(pixels())
    assert counting.made == made
    assert len(names) == len(picture_model().weights) + 2
    assert [weight.name for weight in model.weights] == names


@not_on_tensorflow
def test_rematerialised_layers__learn_the_same():
    def learnt():
        keras.utils.set_random_seed(4)
        model = ending_with(score())
        fill(apply_lora(model, LoraConfig(r=2, target_modules=["hidden", "score"])))
        before = [value(variable) for variable in model.trainable_variables]
        model.compile("sgd", "mse")
        model.fit(np.linspace(-1, 1, 32).reshape(4, 8), np.ones((4, 3)), epochs=2, verbose=0, shuffle=False)
        return [value(now) - was for now, was in zip(model.trainable_variables, before, strict=True)]

    plain = learnt()
    with keras.RematScope(mode="full"):
        again = learnt()
    for expected, found in zip(plain, again, strict=True):
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, atol=1e-6)


def fitted(model, **options):
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    before = {variable.path: value(variable) for variable in model.variables}
    model.fit(pixels(8, seed=1), np.arange(8) % 4, batch_size=4, epochs=2, verbose=0)
    return {path for path, was in before.items() if not np.array_equal(was, value(by_path(model)[path]))}


def by_path(model):
    return {variable.path: variable for variable in model.variables}


def test_fit__changes_what_is_trained_and_nothing_else():
    model = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["first"], modules_to_save=["score"]))
    changed = fitted(model)
    trained = {variable.path for variable in model.trainable_variables}
    assert changed == trained


@pytest.mark.parametrize(
    ("options", "moves"), [({}, False), ({"batch_norm": "saved"}, True), ({"modules_to_save": ["norm"]}, True)]
)
def test_statistics_of_batch_norms__move_only_where_they_are_saved(options, moves):
    model = apply_lora(picture_model(), LoraConfig(r=2, target_modules=["hidden"], **options))
    changed = fitted(model)
    assert any(path.endswith("norm/moving_mean") for path in changed) == moves


@pytest.mark.parametrize("precision", ["bfloat16", "mixed_bfloat16"])
def test_adapters_of_short_numbers__stay_long(precision):
    layers = [keras.Input((6,)), keras.layers.Dense(4, name="x", dtype=precision)]
    model = apply_lora(keras.Sequential(layers), LoraConfig(r=2, target_modules=["x"]))
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert keras.backend.standardize_dtype(model(numbers(2, 6)).dtype) == "bfloat16"


def test_report__is_that_of_the_torch_engine(capsys):
    print_trainable_parameters(
        apply_lora(vit(), LoraConfig(r=4, target_modules=["query", "value"], modules_to_save=["predictions"]))
    )
    adapters, head = 2 * 2 * 4 * (16 + 16), 16 * 5 + 5
    total = vit().count_params() + adapters
    trained = adapters + head
    line = f"trainable params: {trained:,} || all params: {total:,} || trainable%: {100 * trained / total:.4f}\n"
    assert capsys.readouterr().out == line


class Held(keras.Model):
    """Layers in a list, without names."""

    def __init__(self):
        super().__init__()
        self.blocks = [keras.layers.Dense(4) for _ in range(3)]

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return inputs


def test_layers_without_names__are_called_as_their_model_holds_them():
    model = Held()
    model(numbers(1, 4))
    assert list(layers_of(model)) == ["blocks.0", "blocks.1", "blocks.2"]
    apply_lora(model, LoraConfig(r=2, target_modules=r"blocks\.\d", exclude_modules=["blocks.1"]))
    assert [hasattr(block, "lora") for block in model.blocks] == [True, False, True]
