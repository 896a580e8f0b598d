"""Adapting a Keras model in place, and taking that back."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lumora.errors import AdapterError, LumoraWarning, NoMatchingPeftModuleError, TargetError
from lumora.integrations.keras.adapter import Adapter, adapter_in, attach, detach
from lumora.integrations.keras.choosing import Choice, choose, frozen_biases, mistaken_names
from lumora.integrations.keras.guarding import guard, unguard
from lumora.integrations.keras.layers import is_batch_norm, layers_of, own_weights, parameters_of
from lumora.integrations.keras.library import Layer, Model, ops
from lumora.integrations.keras.preprocessor import warn_of_preprocessor
from lumora.lora.config import LoraConfig
from lumora.lora.names import exactly, is_inside_any

_RECORD = "_lumora_adapted"
_BIASES = ("bias", "beta")
"""What Keras calls a bias; that of a norm is its beta."""


@dataclass(frozen=True)
class Adapted:
    """What was done to a model."""

    config: LoraConfig
    """With defaults and "all-linear" spelled out."""
    saved: tuple[str, ...]
    """The layers that are trained and saved whole."""


def apply_lora(model: Model, config: LoraConfig) -> Model:
    """Put adapters into a Keras model and freeze the rest of it; returns the same model.

    It trains on every backend, with `fit` or a loop of one's own; compile it after this, and with it any model around
    it that has computed before: that one's functions know nothing of new adapters. Adapters lie in their layers
    as `layer.lora` and are added beside the frozen kernel, so its gradient is never computed. Batch norms of the base
    keep their statistics unless `batch_norm="saved"`, or the layer is in `modules_to_save`. Until `merge_lora` or
    `remove_lora`, Keras cannot save or copy the model or one around it: it would leave out the adapters.

    Args:
        model: a built model, without adapters.
        config: the same as for torch. Names and endings are those of the layers, as `layers_of(model)` lists them.

    Raises:
        TargetError: with everything that is wrong. The model is then as it was.

    >>> from lumora.integrations.keras.library import keras
    >>> layers = [keras.Input((8,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2, name="score")]
    >>> model = keras.Sequential(layers)
    >>> model = apply_lora(model, LoraConfig(r=2, target_modules=["hidden"], modules_to_save=["score"]))
    >>> print_trainable_parameters(model)
    trainable params: 50 || all params: 122 || trainable%: 40.9836
    """
    choice = choose(model, config)
    choice.problems += [*mistaken_names(model, config), *frozen_biases(model, choice)]
    _apply(model, choice)
    warn_of_preprocessor(model)
    return model


def apply_stored(model: Model, config: LoraConfig, *, is_trainable: bool) -> Model:
    """The same for the configuration of a file, whose names are paths, and whose adapter may only have to predict."""
    choice = choose(model, config)
    choice.problems += frozen_biases(model, choice) if is_trainable else []
    return _apply(model, choice)


def _apply(model: Model, choice: Choice) -> Model:
    config = choice.config
    _refuse(model, choice)
    for note in choice.notes:
        warnings.warn(f"{note}.", LumoraWarning, stacklevel=3)
    adapters = [Adapter(t.layer, t.kind, t.r, t.scaling, config) for t in choice.targets]
    _freeze(model, choice)
    for target, adapter in zip(choice.targets, adapters, strict=True):
        attach(target.layer, adapter)
    wanted = config.target_modules
    if not isinstance(wanted, set):
        wanted = exactly([target.path for target in choice.targets], layers_of(model))
    _set_record(model, Adapted(replace(config, target_modules=wanted), tuple(choice.saved)))
    guard(model)
    if config.inference_mode:
        freeze_all(model)
    return model


def adapted(model: Model) -> Adapted:
    """What was done to a model; an error for one without adapters."""
    found = getattr(model, _RECORD, None)
    if not isinstance(found, Adapted):
        raise AdapterError(f"{model.name} has no adapters; apply_lora(model, LoraConfig(...)) puts them in.")
    return found


def is_adapted(model: Model) -> bool:
    """Whether a model has adapters."""
    return isinstance(getattr(model, _RECORD, None), Adapted)


def adapters_of(model: Model) -> dict[str, tuple[Layer, Any]]:
    """The adapted layers and their adapters, under the layers' paths."""
    return {path: (layer, one) for path, layer in layers_of(model).items() if (one := adapter_in(layer)) is not None}


def set_strength(model: Model, strength: float) -> None:
    """Let the adapters count `strength` times as much as they were trained to; 0 leaves the base and what else learnt.

    A file that is saved holds the adapters as they were trained. Nothing is compiled again.
    """
    adapted(model)
    for _, adapter in adapters_of(model).values():
        adapter.strength = strength


@contextmanager
def as_trained(model: Model) -> Generator[None]:
    """Inside, adapters count as much as they were trained to."""
    before = [(adapter, adapter.strength) for _, adapter in adapters_of(model).values()]
    try:
        for adapter, _ in before:
            adapter.strength = 1.0
        yield
    finally:
        for adapter, strength in before:
            adapter.strength = strength


def merge_lora(model: Model) -> Model:
    """Add the updates to the kernels and take the adapters out, for `model.save` and export. Returns the same model."""
    adapted(model)
    for layer, adapter in adapters_of(model).values():
        kernel = adapter.kind.kernel(layer)
        kernel.assign(ops.cast(ops.cast(kernel, "float32") + ops.cast(adapter.update(layer), "float32"), kernel.dtype))
    return remove_lora(model)


def remove_lora(model: Model) -> Model:
    """Take the adapters out; what was trained besides them stays. All weights can be trained again afterwards."""
    adapted(model)
    for layer, _ in adapters_of(model).values():
        detach(layer)
    _set_record(model, None)
    unguard(model)
    _thaw(model)
    _forget_functions(model)
    return model


def count_parameters(model: Model) -> tuple[int, int]:
    """How many parameters are trained, and how many there are; statistics and random states are none."""
    sizes = [(int(ops.size(variable)), variable.trainable) for variable in parameters_of(model)]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def print_trainable_parameters(model: Model) -> None:
    """Print both counts and their ratio, as `PeftModel.print_trainable_parameters` does."""
    trained, total = count_parameters(model)
    print(  # noqa: T201 - printing is what it is for
        f"trainable params: {trained:,} || all params: {total:,} || trainable%: {100 * trained / total:.4f}"
    )


def trained_biases(model: Model) -> Iterator[tuple[str, Any]]:
    """The biases of the base that are trained, each under the path of its layer and its own name."""
    record = adapted(model)
    if record.config.bias == "none":
        return
    for path, layer in layers_of(model).items():
        if is_inside_any(path, record.saved):
            continue
        if record.config.bias == "all" or adapter_in(layer) is not None:
            yield from ((path, v) for v in layer._trainable_variables if v.name in _BIASES)


def moving_norms(model: Model) -> Iterator[tuple[str, Layer]]:
    """The batch norms of the base whose statistics move and are saved."""
    record = adapted(model)
    if record.config.batch_norm == "saved":
        for path, layer in layers_of(model).items():
            if is_batch_norm(layer) and not is_inside_any(path, record.saved):
                yield path, layer


def freeze_all(model: Model) -> None:
    """Train nothing."""
    for variable in parameters_of(model):
        variable.trainable = False


def _refuse(model: Model, choice: Choice) -> None:
    if choice.problems:
        kind = NoMatchingPeftModuleError if choice.nothing_found else TargetError
        text = "\n".join(f"  - {problem}" for problem in choice.problems)
        raise kind(f"{model.name} cannot be adapted so; it is unchanged.\n{text}")


def _freeze(model: Model, choice: Choice) -> None:
    """Train what lies in saved layers and the biases asked for. The adapters come later, trainable."""
    _thaw(model)  # Keras takes whatever is inside a frozen layer for frozen
    layers = layers_of(model)
    whole = [path for path in layers if is_inside_any(path, choice.saved)]
    kept = {id(variable) for path in whole for variable in layers[path]._trainable_variables}
    adapted_paths = {target.path for target in choice.targets}
    for path, layer in layers.items():
        if choice.config.bias == "all" or (choice.config.bias == "lora_only" and path in adapted_paths):
            kept |= {id(variable) for variable in own_weights(layer) if variable.name in _BIASES}
        if is_batch_norm(layer) and path not in whole and choice.config.batch_norm == "frozen":
            layer.trainable = False  # its statistics stay only so
    for variable in parameters_of(model):
        variable.trainable = id(variable) in kept
    _forget_functions(model)


def _thaw(model: Model) -> None:
    """Train everything."""
    for layer in (model, *layers_of(model).values()):
        layer.trainable = True
    for variable in parameters_of(model):
        variable.trainable = True


def _forget_functions(model: Model) -> None:
    """Compiled functions were made for what the model was before."""
    for name in ("train_function", "test_function", "predict_function"):
        if hasattr(model, name):
            setattr(model, name, None)


def _set_record(model: Model, record: Adapted | None) -> None:
    object.__setattr__(model, _RECORD, record)
