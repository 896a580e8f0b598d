"""What is adapted, active, merged and trained; how many parameters that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from torch import nn

from lumora.errors import AdapterError
from lumora.lora import inject
from lumora.lora.layers import LoraLayer
from lumora.lora.saved import ModulesToSaveWrapper

T = TypeVar("T")
Irregular = Literal["irregular"]
"""Stands for a value that differs between layers."""


@dataclass
class TunerLayerStatus:
    """One adapted layer."""

    name: str
    module_type: str
    enabled: bool
    active_adapters: list[str]
    merged_adapters: list[str]
    requires_grad: dict[str, bool | Irregular]
    available_adapters: list[str]
    devices: dict[str, list[str]]
    quantization_backend: str | None = None


@dataclass
class TunerModelStatus:
    """The whole model; "irregular" where its layers differ."""

    base_model_type: str
    adapter_model_type: str
    peft_types: dict[str, str]
    trainable_params: int
    total_params: int
    num_adapter_layers: int
    enabled: bool | Irregular
    active_adapters: list[str] | Irregular
    merged_adapters: list[str] | Irregular
    requires_grad: dict[str, bool | Irregular]
    available_adapters: list[str]
    devices: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    quantization_backend: str | None = None


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are.

    >>> count_parameters(nn.Linear(3, 2))
    (8, 8)
    """
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def layer_status(model: nn.Module) -> list[TunerLayerStatus]:
    """The status of every adapted layer, in the model's order."""
    layers = [
        (path, m) for path, m in _inside(model).named_modules() if isinstance(m, LoraLayer | ModulesToSaveWrapper)
    ]
    if not layers:
        raise AdapterError(f"{type(model).__name__} has no adapted layers.")
    return [_one_layer(path, layer) for path, layer in layers]


def model_status(model: nn.Module) -> TunerModelStatus:
    """The status of the whole model."""
    layers = layer_status(model)
    base = getattr(model, "base_model", None)
    trained, total = count_parameters(model)
    available = sorted({n for layer in layers for n in layer.available_adapters})
    adapted = [layer for layer in layers if layer.module_type != _SAVED]
    configs = getattr(model, "peft_config", {})
    holders = {n: [layer for layer in layers if n in layer.available_adapters] for n in available}
    trained_adapters: dict[str, bool | Irregular] = {}
    for name, layers_with in holders.items():
        flags: list[bool | Irregular] = [layer.requires_grad[name] for layer in layers_with]
        trained_adapters[name] = _common(flags)
    return TunerModelStatus(
        base_model_type=type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__,  # type: ignore[operator]
        adapter_model_type=type(base).__name__ if hasattr(model, "get_base_model") else "None",
        peft_types={n: str(c.peft_type.value) for n, c in configs.items()},
        trainable_params=trained,
        total_params=total,
        num_adapter_layers=len(layers),
        enabled=_common([layer.enabled for layer in layers]),
        active_adapters=_together([(layer.active_adapters, layer.available_adapters) for layer in adapted]),
        merged_adapters=_together([(layer.merged_adapters, layer.available_adapters) for layer in adapted]),
        requires_grad=trained_adapters,
        available_adapters=available,
        devices={n: sorted({d for layer in holders[n] for d in layer.devices[n]}) for n in available},
    )


def _together(layers: list[tuple[list[str], list[str]]]) -> list[str] | Irregular:
    """The names that hold in every layer that has them, out of (names, available names) of each layer."""
    names: dict[str, None] = {}
    for held, _ in sorted(layers, key=lambda layer: -len(layer[0])):
        names |= dict.fromkeys(held)
    same = all(held == [n for n in names if n in available] for held, available in layers)
    return list(names) if same else "irregular"


_SAVED = "ModulesToSaveWrapper"


def _one_layer(path: str, layer: inject.Wrapper) -> TunerLayerStatus:
    parameters: dict[str, list[nn.Parameter]] = {
        n: list(layer.parameters_of(n) if isinstance(layer, LoraLayer) else layer.modules_to_save[n].parameters())
        for n in inject.held(layer)
    }
    trained: dict[str, bool | Irregular] = {
        n: _common([p.requires_grad for p in ps] or [False]) for n, ps in parameters.items()
    }
    return TunerLayerStatus(
        name=path,
        module_type=layer._get_name(),
        enabled=not layer.disable_adapters,
        active_adapters=layer.active_adapters,
        merged_adapters=layer.merged_adapters if isinstance(layer, LoraLayer) else [],
        requires_grad=trained,
        available_adapters=sorted(parameters),
        devices={n: sorted({p.device.type for p in ps}) for n, ps in parameters.items()},
    )


def _inside(model: nn.Module) -> nn.Module:
    """The part whose paths start with `model.`, as PEFT reports them."""
    return model.base_model if hasattr(model, "get_base_model") else model  # type: ignore[return-value]


def _common(values: Sequence[T]) -> T | Irregular:
    return values[0] if all(value == values[0] for value in values) else "irregular"
