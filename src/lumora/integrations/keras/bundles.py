"""Bundles of Keras models: written, verified, and loaded again; `lumora.load` predicts with them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lumora.bundle import About, Loaded, names
from lumora.bundle.about import about_to_json
from lumora.bundle.card import card
from lumora.bundle.processor import processor_values
from lumora.bundle.proof import LOGITS, compare, prove, tolerance_of
from lumora.bundle.reading import check_fingerprint
from lumora.bundle.verify import verify_before_manifest
from lumora.bundle.writing import write_tensors
from lumora.data.durable import write_folder
from lumora.errors import AdapterFileError, BundleError, LumoraError
from lumora.integrations.keras.applying import adapted, as_trained, is_adapted, remove_lora
from lumora.integrations.keras.bases import base_of, check_adapted_whole, load_model
from lumora.integrations.keras.files import all_weights, put_adapter, save_adapter, tensors_of
from lumora.integrations.keras.guarding import copied_without_adapters
from lumora.integrations.keras.in_torch import InTorch
from lumora.integrations.keras.library import Model, keras
from lumora.integrations.keras.precision import full_precision
from lumora.integrations.keras.values import array_of, tensor_of
from lumora.lora import files

_LISTED = 5


def save_bundle(folder: str | os.PathLike[str], model: Model, about: About) -> None:
    """Write a bundle that takes its place only once a model made again from it has given the same outputs.

    A base with a name is loaded by a fresh process. One without is made again from its own configuration.

    Args:
        folder: where to; what is there stays until the new one is whole.
        model: with adapters, or trained fully. Adapters are written and proved as they were trained, whatever
            `set_strength` says.
        about: what `describe` gave for it.
    """
    check_adapted_whole(model)
    if (about.method == "lora") != is_adapted(model):
        raise BundleError(f'The bundle is to have the method "{about.method}", which is not how the model was trained.')
    with full_precision(), as_trained(model):
        proof = prove(InTorch(model), about)

    def fill(place: Path) -> None:
        _fill(place, model, about, proof)
        if about.base.is_nameless:
            again = put_together(place, about, base=_copy_of(model), allow_other_base=False)
            with full_precision():
                compare(proof, prove(again.model, about), tolerance_of(again.model))
        else:
            verify_before_manifest(place)

    write_folder(Path(folder), fill)


def load_bundle(
    folder: str | os.PathLike[str], *, base: Model | str | None = None, is_trainable: bool = False
) -> Model:
    """The Keras model of a bundle. `lumora.load(folder)` gives a predictor instead.

    Args:
        folder: what `save_bundle` wrote, or the name of a repository on the Hub.
        base: the model as it was before training, or where it lies now; needed where the bundle's base has no name.
        is_trainable: go on training an adapter; otherwise all of it is frozen. A model without adapters is as its base.
    """
    from lumora import bundle

    loaded = bundle.load(folder, base=base)
    if not isinstance(loaded.model, InTorch):
        raise BundleError(f"The bundle {folder} is of a torch model; lumora.bundle.load gives it.")
    model = loaded.model.keras_model
    return _trainable(model) if is_trainable and is_adapted(model) else model


def put_together(home: Path, about: About, *, base: Any, allow_other_base: bool) -> Loaded:
    """What `lumora.bundle.reading.put_together` does, for a Keras base; registered as an entry point."""
    try:
        model = _base(home, about, base)
        found = _adapted_by(model, home) if about.method == "lora" else _filled(model, home)
        made = base_of(found, about)
        if about.method == "lora":
            check_fingerprint(about, made, home, allow_other_base)
    except BundleError:
        raise
    except LumoraError as error:
        raise BundleError(f"The bundle {home} cannot be loaded: {error}") from error
    return Loaded(made.module.eval(), about, made)


# --- writing ----------------------------------------------------------------------------------------------------------


def _fill(place: Path, model: Model, about: About, proof: Mapping[str, Tensor]) -> None:
    tensors = tensors_of(model) if about.method == "lora" else _all_weights(model)
    if about.method == "lora":
        save_adapter(model, place)
    else:
        write_tensors(tensors, place / names.WEIGHTS)
    write_tensors({LOGITS: proof[LOGITS]}, place / names.PROOF)
    (place / names.ABOUT).write_text(about_to_json(about), encoding="utf-8")
    if values := processor_values(about):
        (place / names.PROCESSOR).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    text = card(about, parameters=sum(tensor.numel() for tensor in tensors.values()))
    (place / names.CARD).write_text(text, encoding="utf-8")


def _all_weights(model: Model) -> dict[str, Tensor]:
    return {name: tensor_of(variable) for name, variable in _weights(model).items()}


def _weights(model: Model) -> dict[str, Any]:
    return {name: variable for _, name, variable in all_weights(model)}


def _copy_of(model: Model) -> Model:
    """The model made again from its own configuration, with the base's weights and without adapters."""
    try:
        with copied_without_adapters():
            copy = type(model).from_config(model.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise BundleError(
            f"{model.name} cannot be made again from its configuration, so its bundle cannot be verified: {error} Save "
            "the base with model.save('base.keras') before it is adapted, and describe(..., base='keras:base.keras')."
        ) from error
    if not copy.built:
        copy.build_from_config(model.get_build_config())
    ours = _all_weights(model)  # copied: on JAX two variables of one value would share it, and one call frees it
    again = _weights(copy)
    _check_names(model, ours, again)
    copy.built = True  # of a subclass, Keras may have built all inside it and not noted that
    for name, variable in again.items():
        variable.assign(array_of(ours[name]))
    return copy


def _check_names(model: Model, ours: Collection[str], again: Collection[str]) -> None:
    lacking, unknown = ([name for name in a if name not in b] for a, b in ((ours, again), (again, ours)))
    if lacking or unknown:
        raise BundleError(
            f"{model.name} has other weights when it is made again from its configuration, so its bundle cannot be "
            f"verified. There is no {', '.join(lacking[:_LISTED]) or 'weight less'}, but "
            f"{', '.join(unknown[:_LISTED]) or 'nothing else'}. Give the layers names of their own, such as "
            "Dense(4, name='score'), and make and build all of them from what get_config gives."
        )


# --- reading ----------------------------------------------------------------------------------------------------------


def _base(home: Path, about: About, given: Any) -> Model:
    if given is None and about.base.is_nameless:
        raise BundleError(
            f"The bundle {home} is for a Keras model {about.base.name} that was given ready; give it again: base=model"
        )
    if given is None or isinstance(given, str):
        return load_model(given or about.base.name, about.task, about.labels.names)
    if not isinstance(given, keras.Model):
        raise BundleError(
            f"The bundle {home} is for a Keras model, and base is a {type(given).__name__}. Give a keras.Model, or the "
            "name of one."
        )
    return _copy_of(given)


def _adapted_by(model: Model, home: Path) -> Model:
    stored = files.read_adapter(files.Source(home))
    if is_adapted(model):
        remove_lora(model)
    return put_adapter(model, stored.config, stored.tensors)


def _trainable(model: Model) -> Model:
    """The same adapter, put in once more as one to be trained."""
    config, tensors = adapted(model).config, tensors_of(model)
    return put_adapter(remove_lora(model), config, tensors, is_trainable=True)


def _filled(model: Model, home: Path) -> Model:
    stored, own = files.read_tensors_of_file(home / names.WEIGHTS), _weights(model)
    problems = [f"{name}: the base has no such tensor" for name in stored if name not in own]
    problems += [f"{name}: missing" for name in own if name not in stored]
    problems += [
        f"{name}: {tuple(stored[name].shape)} instead of {tuple(variable.shape)}"
        for name, variable in own.items()
        if name in stored and tuple(stored[name].shape) != tuple(variable.shape)
    ]
    if problems:
        raise AdapterFileError(f"The tensors do not fit {model.name}: {'; '.join(problems[:_LISTED])}.")
    for name, variable in own.items():
        variable.assign(array_of(stored[name]))
    return model
