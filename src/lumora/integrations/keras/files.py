"""An adapter of a Keras model in PEFT's files: the same keys and orientations, under the paths of Keras's layers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from lumora.errors import AdapterFileError
from lumora.integrations.keras.applying import (
    adapted,
    adapters_of,
    apply_stored,
    freeze_all,
    moving_norms,
    remove_lora,
    trained_biases,
)
from lumora.integrations.keras.kinds import Kind
from lumora.integrations.keras.layers import layers_of, own_weights, training_of
from lumora.integrations.keras.library import Layer, Model
from lumora.integrations.keras.values import tensor_of
from lumora.lora import files
from lumora.lora.config import LoraConfig
from lumora.lora.files.configuration import config_text
from lumora.lora.files.disk import text_writer, write_together
from lumora.lora.names import is_inside

_LISTED = 5


@dataclass(frozen=True)
class Slot:
    """A variable that belongs to an adapter, and how it lies in the file."""

    variable: Any
    kind: Kind | None = None
    """Of the layer, where the variable is one of its two factors."""
    first: bool = False
    """Whether it is A."""

    def read(self) -> Tensor:
        """The value as the file has it."""
        tensor = tensor_of(self.variable)
        if self.kind is None:
            return tensor
        value = self.kind.a_to_file(tensor.numpy()) if self.first else self.kind.b_to_file(tensor.numpy())
        return torch.from_numpy(np.ascontiguousarray(value))

    def fitted(self, stored: Tensor) -> np.ndarray[Any, Any]:
        """A value of the file in the variable's shape; an error if it has another size."""
        shape, value = tuple(self.variable.shape), stored.float().numpy()
        if self.kind is not None:
            expected = tuple(self.read().shape)
            if value.shape == expected:
                return self.kind.a_from_file(value, shape) if self.first else self.kind.b_from_file(value, shape)
        elif value.shape == shape:
            return value
        raise AdapterFileError(f"{tuple(stored.shape)} instead of {tuple(self.read().shape)}")


def slots_of(model: Model) -> dict[str, Slot]:
    """Everything that belongs to a model's adapter, under its keys in the file."""
    return {files.PREFIX + key: slot for key, slot in _slots(model)}


def tensors_of(model: Model) -> dict[str, Tensor]:
    """The tensors of a model's adapter, as they are written to the file."""
    return {key: slot.read() for key, slot in slots_of(model).items()}


def put_tensors(model: Model, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of a file into an adapted model, all of them or none."""
    slots = slots_of(model)
    problems = [f"{key}: the model has no such tensor" for key in tensors if key not in slots]
    problems += [f"{key}: missing" for key in slots if key not in tensors]
    values: dict[str, Any] = {}
    for key, slot in slots.items():
        try:
            if key in tensors:
                values[key] = slot.fitted(tensors[key])
        except AdapterFileError as error:
            problems.append(f"{key}: {error}")
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise AdapterFileError(
            f"The adapter does not fit {model.name}; nothing was loaded: {'; '.join(problems[:_LISTED])}{more}. "
            "Build the model as it was when the adapter was made."
        )
    for key, value in values.items():
        slots[key].variable.assign(value)


def save_adapter(model: Model, folder: str | os.PathLike[str]) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into a folder, made when missing."""
    tensors = tensors_of(model)
    text = config_text(adapted(model).config, {})
    write_together(
        Path(folder),
        {
            files.WEIGHTS: lambda path: safetensors.torch.save_file(tensors, path, {"format": "pt"}),
            files.CONFIG: text_writer(text),
        },
    )


def load_adapter(model: Model, folder: str | os.PathLike[str], *, is_trainable: bool = False) -> Model:
    """Put a saved adapter into a model without one; returns the same model.

    Args:
        model: built as it was when the adapter was made, with the same names of layers.
        folder: what `save_adapter` wrote, or the name of a repository on the Hub.
        is_trainable: go on training it; otherwise all is frozen.
    """
    stored = files.read_adapter(files.Source(folder))
    if stored.config.moves_base:
        start = stored.config.init_lora_weights
        raise AdapterFileError(
            f"The adapter began with init_lora_weights={start!r}, which takes part of the base's weights into it: on "
            "the base as it was, it would give something else. In torch, save it once more with "
            "path_initial_model_for_weight_conversion, and load that."
        )
    return put_adapter(model, stored.config, stored.tensors, is_trainable=is_trainable)


def put_adapter(
    model: Model, config: LoraConfig, tensors: Mapping[str, Tensor], *, is_trainable: bool = False
) -> Model:
    """The same for an adapter that was read already."""
    # How the factors started does not matter any more; they are all replaced.
    as_stored = replace(config, inference_mode=False, init_lora_weights=True, eva_config=None)
    put_back = training_of(model)
    apply_stored(model, as_stored, is_trainable=is_trainable)
    try:
        put_tensors(model, tensors)
    except AdapterFileError:
        remove_lora(model)
        put_back()
        raise
    if not is_trainable:
        freeze_all(model)
    return model


def weights_inside(layers: Mapping[str, Layer], path: str) -> Iterator[tuple[str, Any]]:
    """Every weight of a layer and of the layers in it, each under its path."""
    for inner, layer in layers.items():
        if is_inside(inner, path):
            yield from named_weights(inner, layer)


def named_weights(path: str, layer: Layer) -> Iterator[tuple[str, Any]]:
    """A layer's own weights under their paths; where two have one name, the later ones get a number.

    The path of a model itself is empty.
    """
    taken: set[str] = set()
    for variable in own_weights(layer):
        name, number = variable.name, 2
        while name in taken:
            name, number = f"{variable.name}_{number}", number + 1
        taken.add(name)
        yield f"{path}.{name}" if path else name, variable


def all_weights(model: Model) -> Iterator[tuple[str, str, Any]]:
    """The path of the layer that holds it, the name and the variable of every weight; adapters are none."""
    for path, layer in {"": model, **layers_of(model)}.items():
        yield from ((path, name, variable) for name, variable in named_weights(path, layer))


def _slots(model: Model) -> Iterator[tuple[str, Slot]]:
    layers = layers_of(model)
    for path, (_, adapter) in adapters_of(model).items():
        kind: Kind = adapter.kind
        yield f"{path}.{kind.a_key}", Slot(adapter.a, kind, first=True)
        yield f"{path}.{kind.b_key}", Slot(adapter.b, kind)
    for path in adapted(model).saved:
        yield from ((key, Slot(variable)) for key, variable in weights_inside(layers, path))
    for path, variable in trained_biases(model):
        yield f"{path}.{variable.name}", Slot(variable)
    for path, layer in moving_norms(model):
        yield f"{path}.moving_mean", Slot(layer.moving_mean)
        yield f"{path}.moving_variance", Slot(layer.moving_variance)
