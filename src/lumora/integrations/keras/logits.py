"""Whether a Keras model gives logits, which is what losses, metrics, bundles and the torch models take."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from lumora.errors import MetricError
from lumora.integrations.keras.library import Layer, Model, keras

_CLASSES = ("Softmax", "Sigmoid")
"""Layers, and operations such as `keras.ops.softmax`."""
_PROBABLE = re.compile(r"(softmax|sigmoid)(_v2)?", re.IGNORECASE)
"""What those are called, as functions of Keras, TensorFlow, JAX or torch, too."""
_LOOKED_THROUGH = (
    "Activation",
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "Permute",
    "Reshape",
    "Resizing",
    "UpSampling2D",
)
"""Layers that leave probabilities what they are."""


def check_gives_logits(model: Model) -> None:
    """Raise where a model's last layer gives probabilities. One without known outputs is taken at its word.

    >>> layers = [keras.Input((4,)), keras.layers.Dense(2, activation="softmax", name="score")]
    >>> check_gives_logits(keras.Sequential(layers))
    Traceback (most recent call last):
    lumora.errors.MetricError: sequential... gives probabilities, not logits, for 'score' ends in a softmax or ...
    """
    if (found := next((layer for layer in _last(model) if _gives_probabilities(layer)), None)) is not None:
        raise MetricError(
            f"{model.name} gives probabilities, not logits, for {found.name!r} ends in a softmax or sigmoid. Build the "
            "model without: classifier_activation=None in keras.applications, activation=None in a layer."
        )


def layers_at_the_end(model: Model) -> Iterator[Layer]:
    """Those that give a model's outputs, with what lies inside them and before mere activations and new shapes."""
    for output in getattr(model, "outputs", None) or []:
        yield from _giving(output, (*_LOOKED_THROUGH, *_CLASSES))


def _gives_probabilities(layer: Layer) -> bool:
    activation = getattr(layer, "activation", None)
    functions = (layer, activation, getattr(activation, "activation", None))  # an activation may be a layer with one
    return any(_PROBABLE.fullmatch(_called(function)) for function in functions)


def _called(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _last(model: Model) -> Iterator[Layer]:
    """The layers and operations that give a model's logits."""
    for output in _logits_of(model):
        yield from _giving(output)


def _logits_of(model: Model) -> list[Any]:
    """Of several outputs, those that are taken for the logits."""
    given = getattr(model, "_outputs_struct", None)
    if isinstance(given, dict):
        return [tensor for name, tensor in given.items() if name == "logits"] or [*given.values()]
    return (getattr(model, "outputs", None) or [])[:1]


def _giving(tensor: Any, looked_through: Collection[str] = _LOOKED_THROUGH) -> Iterator[Layer]:
    if not hasattr(tensor, "_keras_history"):
        return
    layer, node, which = tensor._keras_history
    yield layer
    if isinstance(layer, keras.Model):
        inside = getattr(layer, "outputs", None)  # of a subclass Keras knows none
        yield from _giving(inside[which], looked_through) if inside else ()
    elif type(layer).__name__ in looked_through:
        for given in layer._inbound_nodes[node].input_tensors:
            yield from _giving(given, looked_through)
