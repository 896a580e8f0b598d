"""Which tensors an adapter has: their keys in the file, and their places in the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lumora.lora import inject, padding
from lumora.lora.adapter import Parts
from lumora.lora.config import LoraConfig
from lumora.lora.files.names import PREFIX
from lumora.lora.layers import LoraLayer
from lumora.lora.saved import ModulesToSaveWrapper


@dataclass(frozen=True)
class Slot:
    """A place in a model for one tensor of the file."""

    owner: nn.Module
    name: str
    path: str
    """The tensor's key in the whole model's state dict."""
    device: torch.device | None = None
    """Where a tensor without storage gets it; where the given values are, when not said."""
    window: padding.Window | None = None
    """The part that counts, of a factor with room for more ranks."""

    @property
    def tensor(self) -> Tensor:
        """What lies there now."""
        return self.read(getattr(self.owner, self.name))

    def read(self, whole: Tensor) -> Tensor:
        """The part of a tensor in this place that counts."""
        return whole if self.window is None else self.window.read(whole)

    def fill(self, value: Tensor) -> None:
        """Put a tensor there; one that has no storage yet (meta) gets it now."""
        here: Tensor = getattr(self.owner, self.name)
        if self.window is not None:
            self.window.write(here.data, value)
            return
        if here.device.type != "meta":
            here.data.copy_(value)
            return
        value = value.to(self.device or value.device, here.dtype, copy=True)
        setattr(
            self.owner, self.name, nn.Parameter(value, here.requires_grad) if isinstance(here, nn.Parameter) else value
        )


def slots_of(model: nn.Module, name: str) -> Iterator[tuple[str, Slot]]:
    """Every tensor of an adapter: its key in the file, and its place in the model."""
    root, above = root_of(model)
    config = getattr(root, "peft_config", {}).get(name) or LoraConfig()
    for path, module in root.named_modules():
        if isinstance(module, LoraLayer) and name in module.adapters:
            device = next((p.device for p in module.base_layer.parameters() if p.device.type != "meta"), None)
            for key, owner, attribute, inside in _layer_parts(module, name):
                window = padding.window_of(module, name, key)
                yield f"{PREFIX}{path}.{key}", Slot(owner, attribute, f"{above}{path}.{inside}", device, window)
        elif isinstance(module, ModulesToSaveWrapper) and name in module.modules_to_save:
            for key, owner, attribute in _state(module.modules_to_save[name]):
                inside = f"modules_to_save.{name}.{key}"
                yield f"{PREFIX}{path}.{key}", Slot(owner, attribute, f"{above}{path}.{inside}")
    for path, _ in inject.trained_biases(root, name, config):
        owner, _, attribute = path.rpartition(".")
        key = f"{_path_with_only(root, owner, name)}.{attribute}"
        yield PREFIX + key, Slot(root.get_submodule(owner), attribute, above + path)
    if config.batch_norm == "saved":
        for norm_path, norm in _norms(root):
            for key in ("running_mean", "running_var", "num_batches_tracked"):
                yield f"{PREFIX}{norm_path}.{key}", Slot(norm, key, f"{above}{norm_path}.{key}")


def _path_with_only(root: nn.Module, path: str, name: str) -> str:
    """What a path would be in a model that has no other adapters than this one."""
    kept: list[str] = []
    module = root
    for part in path.split("."):
        if not (isinstance(module, LoraLayer) and part == "base_layer" and name not in module.adapters):
            kept.append(part)
        module = module.get_submodule(part)
    return ".".join(kept)


def root_of(model: nn.Module) -> tuple[nn.Module, str]:
    """The base inside whatever wraps it, and the path to it."""
    if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
        root, above = root_of(inner)
        return root, "_orig_mod." + above
    if hasattr(model, "get_base_model") and isinstance(getattr(model, "base_model", None), nn.Module):
        return model.base_model.model, PREFIX  # type: ignore[return-value,union-attr]
    if hasattr(model, "targeted_module_names") and isinstance(getattr(model, "model", None), nn.Module):
        return model.model, "model."  # type: ignore[return-value]
    return model, ""


def frozen_norms(root: nn.Module) -> Iterator[nn.Module]:
    """The base's batch norms with running statistics: all but those in the copies that are trained whole."""
    trained = {m for w in root.modules() if isinstance(w, ModulesToSaveWrapper) for m in w.modules_to_save.modules()}
    return (m for m in root.modules() if isinstance(getattr(m, "running_mean", None), Tensor) and m not in trained)


def _norms(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    whole = {m for w in root.modules() if isinstance(w, ModulesToSaveWrapper) for m in w.modules()}
    for path, module in root.named_modules():
        if isinstance(getattr(module, "running_mean", None), Tensor) and module not in whole:
            yield path, module


def _layer_parts(layer: LoraLayer, name: str) -> Iterator[tuple[str, nn.Module, str, str]]:
    """(key in the file, owner, attribute, key in the state dict) of an adapter's tensors in one layer."""
    for container in LoraLayer.adapter_layer_names:
        part = getattr(layer, container)
        if name not in part:
            continue
        if isinstance(part, nn.ParameterDict):
            yield container, part, name, f"{container}.{name}"
        elif container == "lora_magnitude_vector":
            yield container, part[name], "weight", f"{container}.{name}.weight"
        else:
            for key, _ in part[name].named_parameters():
                yield f"{container}.{key}", part[name], key, f"{container}.{name}.{key}"


def _state(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Everything in a module's state dict with its owner."""
    for key in module.state_dict():
        path, _, attribute = key.rpartition(".")
        owner = module.get_submodule(path)
        if isinstance(getattr(owner, attribute, None), Tensor):
            yield key, owner, attribute


def expected_tensors(model: nn.Module, planned: inject.Plan) -> Iterator[tuple[str, Tensor]]:
    """Keys that an adapter's file has, each with a tensor of its shape and kind, from the plan to add it."""
    modules = dict(inject.base_modules(model))
    for target, (_, layer, parts) in zip(planned.choice.targets, planned.parts, strict=True):
        parent, _, own = target.path.rpartition(".")
        path = f"{PREFIX}{parent}.base_layer.{own}" if target.inner else PREFIX + target.path
        yield from ((f"{path}.{key}", tensor) for key, tensor in _expected_parts(parts))
        bias = layer.base_layer._parameters.get("bias")
        if planned.config.bias == "lora_only" and bias is not None:
            yield f"{path}.base_layer.bias", bias
    for path in planned.choice.saved:
        module = modules[path]
        original = module.original_module if isinstance(module, ModulesToSaveWrapper) else module
        for key, owner, attribute in _state(original):
            yield f"{PREFIX}{path}.{key}", getattr(owner, attribute)
    if planned.config.bias == "all":
        yield from _expected_biases(modules, planned)
    if planned.config.batch_norm == "saved":
        for path, module in modules.items():
            if isinstance(getattr(module, "running_mean", None), Tensor) and not _inside(path, planned.choice.saved):
                for key in ("running_mean", "running_var", "num_batches_tracked"):
                    yield f"{PREFIX}{path}.{key}", getattr(module, key)


def _expected_parts(parts: Parts) -> Iterator[tuple[str, Tensor]]:
    if isinstance(parts.a, nn.Parameter):
        yield "lora_embedding_A", parts.a
    else:
        yield from ((f"lora_A.{key}", parameter) for key, parameter in parts.a.named_parameters())
    if isinstance(parts.b, nn.Parameter):
        yield "lora_embedding_B", parts.b
    else:
        yield from ((f"lora_B.{key}", parameter) for key, parameter in parts.b.named_parameters())
    if parts.magnitude is not None:
        yield "lora_magnitude_vector", parts.magnitude.get_parameter("weight")


def _expected_biases(modules: Mapping[str, nn.Module], planned: inject.Plan) -> Iterator[tuple[str, Tensor]]:
    adapted = {t.path for t in planned.choice.targets}
    inner = {t.path for t in planned.choice.targets if t.inner}
    for path, module in modules.items():
        original = _inside(path, planned.choice.saved)
        base = module.base_layer if isinstance(module, LoraLayer) else module
        for name, parameter in base.named_parameters(recurse=False):
            if "bias" not in name or original or (path in adapted and isinstance(base, nn.MultiheadAttention)):
                continue
            parent, _, own = path.rpartition(".")
            place = f"{parent}.base_layer.{own}" if path in inner else path
            yield f"{PREFIX}{place}{'.base_layer' if path in adapted else ''}.{name}", parameter


def _inside(path: str, parents: list[str]) -> bool:
    return any(path == p or path.startswith(p + ".") for p in parents)
