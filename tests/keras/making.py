"""Small Keras models with every kind of layer, and what is computed about them without Lumora."""

import numpy as np
import pytest

from lumora.integrations.keras.library import keras, keras_hub

once = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="starts a process; TensorFlow's suffices")
twice = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="starts a process; TensorFlow's and JAX's suffice"
)
not_on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="Keras itself cannot rematerialise inside a compiled function there"
)
in_graphs = pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch makes no functions before")
eager = pytest.mark.skipif(keras.backend.backend() != "torch", reason="starts a process; torch compiles nothing before")


def picture_model(classes=4):
    """Convolutions, a batch norm, dense layers; everything has a name."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Conv2D(6, 3, strides=2, activation="relu", padding="same", name="first"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Conv2D(8, 3, dilation_rate=2, name="second"),
            keras.layers.GlobalAveragePooling2D(name="mean"),
            keras.layers.Dense(10, activation="gelu", name="hidden"),
            keras.layers.Dense(classes, name="score"),
        ]
    )


def vit(classes=5, dropout=0.0):
    """KerasHub's ViT, as small as the transformers one in `tests/tiny_models.py`."""
    keras.utils.set_random_seed(2)
    models = keras_hub().models
    backbone = models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=24,
        dropout_rate=dropout,
    )
    return models.ViTImageClassifier(backbone, num_classes=classes)


def segformer():
    """KerasHub's SegFormer for pictures of 64 × 64, filled with numbers."""
    keras.utils.set_random_seed(4)
    models = keras_hub().models
    encoder = models.MiTBackbone(
        layerwise_depths=[1, 2, 1, 1],
        num_layers=4,
        layerwise_num_heads=[1, 2, 2, 4],
        layerwise_sr_ratios=[4, 2, 1, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        image_shape=(64, 64, 3),
        hidden_dims=[8, 12, 16, 24],
    )
    backbone = models.SegFormerBackbone(image_encoder=encoder, projection_filters=16)
    model = models.SegFormerImageSegmenter(backbone=backbone, num_classes=5)
    fill(model, scale=0.2)
    return model


def pixels(count=3, side=12, seed=0):
    return np.random.default_rng(seed).normal(size=(count, side, side, 3)).astype("float32")


def fill(model, seed=3, scale=0.3):
    """Give every trained variable numbers of its own, as if it had been trained."""
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, scale, variable.shape).astype("float32"))


def output(model, given):
    # Building a function of it first takes longer, but on JAX each operation would be built.
    on_jax = keras.backend.backend() == "jax"
    return value(model.predict_on_batch(given) if on_jax else model(given, training=False))


def value(tensor):
    return np.array(keras.ops.convert_to_numpy(tensor))
