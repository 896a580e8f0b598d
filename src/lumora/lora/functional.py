"""Adapters in a model that stays what it is: no `PeftModel` around it, its class, methods and paths unchanged."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from lumora.errors import AdapterError, LumoraError
from lumora.lora import files, inject
from lumora.lora.config import LoraConfig, PeftConfig
from lumora.lora.layers import LoraLayer
from lumora.lora.status import TunerLayerStatus, TunerModelStatus, layer_status, model_status
from lumora.lora.tuner import LoraModel


def inject_adapter_in_model(
    peft_config: LoraConfig,
    model: nn.Module,
    adapter_name: str = "default",
    low_cpu_mem_usage: bool = False,
    state_dict: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Put an adapter into a model in place, make it the active one, and return the model itself.

    Args:
        peft_config: what to adapt and how. Not changed.
        model: any module. If anything about the configuration is wrong, it stays as it is.
        adapter_name: what the adapter is called.
        low_cpu_mem_usage: leave the factors without storage, to be loaded afterwards.
        state_dict: adapt the layers that have factors here, whatever `target_modules` says. The values are not used.

    >>> model = inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"]), nn.Sequential(nn.Linear(4, 4)))
    >>> model[0].lora_A["default"]
    Linear(in_features=4, out_features=2, bias=False)
    """
    if state_dict is not None:
        peft_config = replace(peft_config, target_modules=_adapted_in(state_dict))
    LoraModel(model, peft_config, adapter_name, low_cpu_mem_usage=low_cpu_mem_usage)
    return model


def set_adapter(model: nn.Module, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
    """Make exactly these adapters count and, unless `inference_mode`, train."""
    inject.activate(model, _known(model, adapter_name), inference_mode=inference_mode)


def delete_adapter(model: nn.Module, adapter_name: str, prefix: str = "lora_") -> list[str] | None:
    """Remove an adapter; return the names of those that are active now, None when none is left.

    `prefix` is there for PEFT's callers.
    """
    _known(model, adapter_name)
    holders = [wrapper for wrapper in inject.wrappers(model) if adapter_name in inject.held(wrapper)]
    if any(isinstance(w, LoraLayer) and adapter_name in w.merged_adapters for w in holders):
        raise AdapterError(f"Adapter {adapter_name!r} is merged; call unmerge() before deleting it.")
    for wrapper in holders:
        wrapper.remove(adapter_name)
    files.root_of(model)[0].__dict__.get("peft_config", {}).pop(adapter_name, None)
    left = inject.names_of(model)
    active = list(dict.fromkeys(name for wrapper in inject.wrappers(model) for name in wrapper.active_adapters))
    if left and not active:
        active = left[:1]
        inject.activate(model, active)
    return active or None


def set_requires_grad(model: nn.Module, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
    """Let adapters train, or not, whichever are active."""
    for name in _known(model, adapter_names):
        inject.require_grad(model, name, requires_grad)


def cast_adapter_dtype(model: nn.Module, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
    """Turn an adapter's 16-bit factors into 32-bit ones (nothing happens without `autocast_adapter_dtype`)."""
    _known(model, adapter_name)
    for layer in inject.lora_layers(model) if autocast_adapter_dtype else ():
        for parameter in layer.parameters_of(adapter_name) if adapter_name in layer.adapters else ():
            if parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()


def get_layer_status(model: nn.Module) -> list[TunerLayerStatus]:
    """What is adapted, active, merged and trained, layer by layer."""
    return layer_status(model)


def get_model_status(model: nn.Module) -> TunerModelStatus:
    """The same for the whole model."""
    return model_status(model)


def check_if_peft_model(model_name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a folder, or a repository on the Hub, holds an adapter that Lumora reads."""
    try:
        PeftConfig.from_pretrained(str(model_name_or_path))
    except LumoraError:
        return False
    return True


@contextmanager
def rescale_adapter_scale(model: nn.Module, multiplier: float) -> Generator[None]:
    """Inside, every adapter counts `multiplier` times as much: 0 is the base, 1 is as trained."""
    if type(multiplier) not in (int, float):
        raise TypeError(f"The multiplier is {multiplier!r}; it must be a number.")
    layers = list(inject.lora_layers(model))
    if not layers:
        raise AdapterError(f"{type(model).__name__} has no adapters to rescale.")
    before = [(layer, name, adapter.strength) for layer in layers for name, adapter in layer.adapters.items()]
    for layer, name, strength in before:
        layer.set_strength(name, strength * multiplier)
    try:
        yield
    finally:
        for layer, name, strength in before:
            if name in layer.adapters:
                layer.set_strength(name, strength)


@contextmanager
def disable_input_dtype_casting(model: nn.Module, active: bool = True) -> Generator[None]:
    """For PEFT's callers; nothing changes inside, since inputs are never cast to an adapter's precision here."""
    yield


def get_submodules(model: nn.Module, key: str) -> tuple[nn.Module, nn.Module, str]:
    """Return the parent of the module at a path, the module, and its name in the parent."""
    parent, _, name = key.rpartition(".")
    return model.get_submodule(parent), model.get_submodule(key), name


def infer_device() -> str:
    """Name the accelerator of this machine, or "cpu"."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type


def _known(model: nn.Module, names: str | Sequence[str]) -> list[str]:
    wanted = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in wanted if name not in inject.names_of(model)]:
        raise AdapterError(f"There is no adapter {unknown[0]!r}; there are {inject.names_of(model)}.")
    return wanted


def _adapted_in(state_dict: Mapping[str, Tensor]) -> set[str]:
    """Paths of the layers whose factors a state dict has."""
    places = (key.removeprefix(files.PREFIX).partition(".lora_") for key in state_dict)
    # What lies inside an adapted layer's base is adapted along with it.
    paths = {path for path, found, _ in places if found and ".base_layer." not in path}
    if not paths:
        raise AdapterError("The state dict has no factors, so it does not say which layers to adapt.")
    return paths


__all__ = [
    "cast_adapter_dtype",
    "check_if_peft_model",
    "delete_adapter",
    "disable_input_dtype_casting",
    "get_layer_status",
    "get_model_status",
    "get_submodules",
    "infer_device",
    "inject_adapter_in_model",
    "rescale_adapter_scale",
    "set_adapter",
    "set_requires_grad",
]
