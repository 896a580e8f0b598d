"""Keras models by name, and what a bundle notes of one."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lumora.bundle import About, BaseReference
from lumora.bundle.about import installed_versions
from lumora.errors import BundleError
from lumora.integrations.keras.applying import adapted, adapters_of, is_adapted, moving_norms, trained_biases
from lumora.integrations.keras.files import all_weights
from lumora.integrations.keras.in_torch import InTorch
from lumora.integrations.keras.library import Model, keras, keras_hub
from lumora.integrations.keras.logits import check_gives_logits
from lumora.integrations.keras.preprocessor import warn_of_preprocessor
from lumora.integrations.keras.values import tensor_of
from lumora.lora.names import is_inside_any
from lumora.models import Base, Preprocessing
from lumora.models.fingerprint import of_tensors
from lumora.models.heads import WIDTH
from lumora.paths import at_home
from lumora.tasks import MultiLabel, Task

PREFIX = "keras:"
FILE = ".keras"


def load_model(name: str, task: str, labels: Collection[str]) -> Model:
    """The Keras model of a name: `keras:path/to/model.keras`, or `keras:` and a preset of KerasHub or its folder.

    A model of a file keeps the head that it has there; one of a preset gets a fresh head for the labels. Files that
    would run code when they are read are refused by Keras.
    """
    place = name.removeprefix(PREFIX)
    if place.endswith(FILE):
        return _from_file(at_home(place))
    classes = {"segmentation": "ImageSegmenter"}
    maker = getattr(keras_hub().models, classes.get(task, "ImageClassifier"))
    try:
        return maker.from_preset(place, num_classes=len(labels), preprocessor=None)
    except (OSError, ValueError) as error:
        raise BundleError(f"The base {name!r} could not be loaded from KerasHub: {error}") from error


def describe(
    model: Model,
    task: Task[Any],
    preprocessing: Preprocessing,
    size: tuple[int, int],
    *,
    base: str | None = None,
    metrics: dict[str, float] | None = None,
    per_class: dict[str, dict[str, float]] | None = None,
) -> About:
    """What a bundle says of a trained Keras model.

    Args:
        model: with adapters, or one of which all weights were trained.
        task: with the labels.
        preprocessing: what is done to a picture before the model sees it.
        size: height and width of what the model sees.
        base: the name by which `load_model` finds the base; without one, whoever loads the bundle must give the model.
        metrics: how good it is.
        per_class: the same for each label, as `MetricCallback.scores.per_class` has it.
    """
    if base is not None and not base.startswith(PREFIX):
        raise BundleError(
            f"base is {base!r}; a Keras base is called {PREFIX}NAME, see lumora.integrations.keras.bases."
        )
    check_adapted_whole(model)
    check_gives_logits(model)
    warn_of_preprocessor(model)
    return About(
        task=task.name,
        labels=task.labels,
        preprocessing=preprocessing,
        size=size,
        base=reference_to(model, base),
        method="lora" if is_adapted(model) else "full",
        threshold=task.threshold if isinstance(task, MultiLabel) else None,
        metrics=dict(metrics or {}),
        per_class=dict(per_class or {}),
        versions=keras_versions(),
    )


def check_adapted_whole(model: Model) -> None:
    """Raise where adapters lie in parts of a model that has none itself: a bundle would not hold them."""
    parts = [] if is_adapted(model) else list(adapters_of(model))
    if parts:
        raise BundleError(
            f"{model.name} is not adapted itself, but {parts[0]!r} in it has an adapter, which no bundle of the whole "
            "would hold. Call apply_lora on the whole model instead, or first merge_lora(part) on the part that is "
            "adapted."
        )


def keras_versions() -> dict[str, str]:
    """The versions of everything that a Keras model's outputs depend on."""
    return {**installed_versions(), "keras": keras.__version__}


def reference_to(model: Model, name: str | None) -> BaseReference:
    """What a bundle notes of a model's base. A file or folder is noted by its whole path, and must be there."""
    return BaseReference(
        name=_at_its_place(name) if name else type(model).__name__,
        fingerprint=fingerprint(model),
        head="own",
        width=WIDTH,
        library="keras",
        heads=adapted(model).saved if is_adapted(model) else (),
    )


def fingerprint(model: Model) -> str | None:
    """A short name for a model's own weights, without what is trained and kept elsewhere; None if all are trained.

    Costs one pass over the weights.
    """
    if not is_adapted(model):
        return None
    record = adapted(model)
    elsewhere = {id(variable) for _, variable in trained_biases(model)}
    for _, norm in moving_norms(model):
        elsewhere |= {id(norm.moving_mean), id(norm.moving_variance)}
    return of_tensors(
        (name, tensor_of(variable))
        for path, name, variable in all_weights(model)
        if not is_inside_any(path, record.saved) and id(variable) not in elsewhere
    )


def base_of(model: Model, about: About) -> Base:
    """A Keras model as a base of Lumora's."""
    return Base(
        name=about.base.name,
        library="keras",
        module=InTorch(model),
        task=about.task,
        num_labels=len(about.labels),
        preprocessing=about.preprocessing,
        heads=about.base.heads,
        targets=[],
        usual_targets=None,
        fingerprint=fingerprint(model),
        licence=about.base.licence,
        source=about.base.source,
    )


def _at_its_place(name: str) -> str:
    place = at_home(name.removeprefix(PREFIX))
    if place.suffix == FILE and not place.is_file():
        raise BundleError(
            f"There is no file {place}; model.save({str(place)!r}) writes it before the model is adapted."
        )
    return f"{PREFIX}{place.resolve()}" if place.exists() else name


def _from_file(path: Path) -> Model:
    if not path.is_file():
        raise BundleError(
            f"There is no file {path}. If the base lies elsewhere now, say where: base='{PREFIX}path/to/{path.name}'. "
            "model.save(path) writes one before the model is adapted."
        )
    if importlib.util.find_spec("keras_hub") is not None:
        keras_hub()  # which makes its classes known
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"The base {path} could not be loaded: {error}") from error
