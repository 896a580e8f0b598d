"""What keeps Keras from saving or copying a model without its adapters: it makes models again from configurations."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from lumora.errors import AdapterError
from lumora.integrations.keras.adapter import adapter_in
from lumora.integrations.keras.library import Layer, Model, keras

_copied_without: ContextVar[bool] = ContextVar("copied_without", default=False)
_METHODS = ("get_config", "save_assets")
"""What Keras calls in every layer of a model that it saves; of one whose weights alone are written, neither."""
_OF_MODELS = (*_METHODS, "save")
"""Of a model also what would empty a file before anything else is asked."""


@dataclass(frozen=True, eq=False)
class NotSaved:
    """Stands in the place of a layer's method by which it would be saved or copied without adapters."""

    layer: Layer
    method: str

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Raise, and say what to do."""
        if _copied_without.get():
            return getattr(type(self.layer), self.method)(self.layer, *given, **named)
        raise AdapterError(
            f"{self.layer.name} has adapters, and Keras would leave them out of what it saves or copies: model.save, "
            "ModelCheckpoint, clone_model, copy, pickle, save_to_preset. Write them with save_adapter or save_bundle, "
            "or call merge_lora first. model.save_weights and ModelCheckpoint(..., save_weights_only=True) hold them."
        )


def guard(model: Model) -> None:
    """Refuse it in every layer with an adapter and in what holds such layers, also where another model has them."""
    for layer in model._flatten_layers():
        if any(adapter_in(inner) is not None for inner in layer._flatten_layers()):
            for method in _methods(layer):
                vars(layer)[method] = NotSaved(layer, method)


def unguard(model: Model) -> None:
    """Refuse nothing any more."""
    for layer in model._flatten_layers():
        for method in _methods(layer):
            vars(layer).pop(method, None)


@contextmanager
def copied_without_adapters() -> Generator[None]:
    """Inside, configurations are given: for a copy that is meant to have no adapters."""
    token = _copied_without.set(True)
    try:
        yield
    finally:
        _copied_without.reset(token)


def _methods(layer: Layer) -> tuple[str, ...]:
    return _OF_MODELS if isinstance(layer, keras.Model) else _METHODS
