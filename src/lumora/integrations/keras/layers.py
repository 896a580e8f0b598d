"""The layers of a Keras model under dotted paths, and the paths' meaning for a configuration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from lumora.integrations.keras.library import Layer, Model, keras
from lumora.integrations.keras.logits import layers_at_the_end
from lumora.lora.matching import BlockOf
from lumora.lora.names import block_index

_NUMBERED = re.compile(r"_(\d+)(?=\.|$)")


def layers_of(model: Model) -> dict[str, Layer]:
    """Every layer inside a model under its path, each once.

    A part of a path is the layer's own name where somebody gave it one. A name that Keras made up (`dense_7`) counts
    everything that was built before. There it is the name of the attribute that holds the layer, or else the name that
    Keras would have made up if nothing else had been built.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="score")])
    >>> list(layers_of(model))
    ['score']
    """
    return dict(_walk(model, "", set()))


def blocks_of(paths: Collection[str]) -> BlockOf:
    """What tells the block that a layer lies in, by the list that holds it or the number at the end of its name.

    Blocks are counted from 0, also where their names count from 1.

    >>> block_of = blocks_of(["encoder.block_1.mha.query", "encoder.block_2.mha.query"])
    >>> block_of("encoder.block_2.mha.query", None), blocks_of(["blocks.0.fc"])("blocks.0.fc", ["blocks"])
    (1, 0)
    """

    @cache
    def first(pattern: tuple[str, ...] | None) -> int:
        return min((number for path in paths if (number := _number(path, pattern)) is not None), default=0)

    def block_of(path: str, layers_pattern: Collection[str] | str | None) -> int | None:
        names = [layers_pattern] if isinstance(layers_pattern, str) else layers_pattern
        pattern = tuple(names) if names else None
        number = _number(path, pattern)
        return None if number is None else number - first(pattern)

    return block_of


def _number(path: str, layers_pattern: Collection[str] | None) -> int | None:
    return block_index(_NUMBERED.sub(r".\1", path), layers_pattern)


def is_made_up(layer: Layer) -> bool:
    """Whether a layer's name is one that Keras gives to layers without a name."""
    return re.fullmatch(rf"{re.escape(_stem(layer))}(_\d+)?", layer.name) is not None


def is_batch_norm(layer: Layer) -> bool:
    """Whether a layer keeps running statistics, that move where it is trained."""
    return isinstance(layer, keras.layers.BatchNormalization)


def own_weights(layer: Layer) -> list[Any]:
    """The variables of a layer itself, without those of the layers inside it and without random states."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def parameters_of(model: Model) -> list[Any]:
    """Every variable that training could change: all but statistics and random states."""
    return [variable for layer in (model, *_everything(model)) for variable in layer._trainable_variables]


def training_of(model: Model) -> Callable[[], None]:
    """What, once it is called, lets train again the layers and variables that are trained now, and no others."""
    layers = [(layer, layer._trainable) for layer in model._flatten_layers()]
    variables = [(variable, variable.trainable) for variable in parameters_of(model)]

    def put_back() -> None:
        for layer, was in layers:
            layer._trainable = was  # `trainable` would set all inside it, too
        for variable, was in variables:
            variable.trainable = was

    return put_back


def head_paths(model: Model, layers: Mapping[str, Layer]) -> list[str]:
    """The paths of the layers that give a model's outputs, where Keras knows them."""
    last = {id(layer) for layer in layers_at_the_end(model)}
    return [path for path, layer in layers.items() if id(layer) in last]


def _everything(model: Model) -> Iterator[Layer]:
    yield from model._flatten_layers(include_self=False, recursive=True)


def _walk(owner: Layer, above: str, seen: set[int]) -> Iterator[tuple[str, Layer]]:
    names: set[str] = set()
    made_up: Counter[str] = Counter()
    for layer in owner._flatten_layers(include_self=False, recursive=False):
        if id(layer) in seen or isinstance(layer, keras.layers.InputLayer) or getattr(layer, "is_adapter", False):
            continue
        seen.add(id(layer))
        name = _unlike(_name(owner, layer, made_up), names)
        names.add(name)
        yield above + name, layer
        yield from _walk(layer, f"{above}{name}.", seen)


def _name(owner: Layer, layer: Layer, made_up: Counter[str]) -> str:
    if not is_made_up(layer):
        return layer.name
    attribute = next((name for name, held in _held(owner) if held is layer), None)
    if attribute is not None:
        return attribute
    stem = _stem(layer)
    made_up[stem] += 1
    return stem if made_up[stem] == 1 else f"{stem}_{made_up[stem] - 1}"


def _stem(layer: Layer) -> str:
    return keras.src.utils.naming.to_snake_case(type(layer).__name__)


def _held(owner: Layer) -> Iterator[tuple[str, Any]]:
    """What a layer's attributes hold, and what lists and dictionaries among them hold, as `blocks.0`.

    Those of a plain functional or sequential model count not: one made again from its configuration has none.
    """
    if type(owner) in (keras.Sequential, keras.src.models.Functional):
        return
    # On torch, a layer is a module that keeps its parts apart from its other attributes.
    for attribute, value in {**vars(owner), **getattr(owner, "_modules", {})}.items():
        name = attribute.lstrip("_")  # `backbone` is a property of KerasHub's models, over `_backbone`
        yield name, value
        if name != attribute:
            continue
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", one) for key, one in value.items())
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from ((f"{name}.{i}", one) for i, one in enumerate(value))


def _unlike(name: str, names: set[str]) -> str:
    """The name, with a number after it where a neighbour has it already."""
    if name not in names:
        return name
    return next(new for i in range(2, len(names) + 3) if (new := f"{name}.{i}") not in names)
