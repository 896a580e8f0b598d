"""What keeps Keras from saving or copying a model without its adapters: it makes models again from configurations."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

from lumora.errors import AdapterError
from lumora.integrations.keras.adapter import adapter_in
from lumora.integrations.keras.library import Layer, Model, keras

_copied_without: ContextVar[bool] = ContextVar("copied_without", default=False)
_METHODS = ("get_config", "save_assets")
"""What Keras calls in every layer of a model that it saves; of one whose weights alone are written, neither."""


@dataclass(frozen=True, eq=False)
class NotSaved:
    """Stands in the place of a layer's method by which it would be saved or copied without adapters."""

    layer: Layer
    method: str

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Raise, and say what to do."""
        if _copied_without.get():
            return getattr(type(self.layer), self.method)(self.layer, *given, **named)
        raise _refusal(self.layer)


def guard(model: Model) -> None:
    """Refuse it in every layer with an adapter and in what holds such layers, also where another model has them."""
    _guard_files()
    for layer in model._flatten_layers():
        if _has_adapters(layer):
            for method in _METHODS:
                vars(layer)[method] = NotSaved(layer, method)


def unguard(model: Model) -> None:
    """Refuse nothing any more."""
    for layer in model._flatten_layers():
        for method in _METHODS:
            vars(layer).pop(method, None)


@contextmanager
def copied_without_adapters() -> Generator[None]:
    """Inside, configurations are given: for a copy that is meant to have no adapters."""
    token = _copied_without.set(True)
    try:
        yield
    finally:
        _copied_without.reset(token)


@cache
def _guard_files() -> None:
    """Let Keras refuse before it opens a file, which would empty it; once for all models."""
    keras.Model.save = _refusing(keras.Model.save)
    for module in (keras.saving, keras.models):
        module.save_model = _refusing(module.save_model)


def _refusing(save: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(save)
    def saved(model: Model, *given: Any, **named: Any) -> Any:
        if _has_adapters(model) and not _copied_without.get():
            raise _refusal(model)
        return save(model, *given, **named)

    return saved


def _has_adapters(layer: Layer) -> bool:
    return any(adapter_in(inner) is not None for inner in layer._flatten_layers())


def _refusal(layer: Layer) -> AdapterError:
    return AdapterError(
        f"{layer.name} has adapters, and Keras would leave them out of what it saves or copies: model.save, "
        "ModelCheckpoint, clone_model, copy, pickle, save_to_preset. Write them with save_adapter or save_bundle, "
        "or call merge_lora first. model.save_weights and ModelCheckpoint(..., save_weights_only=True) hold them."
    )
