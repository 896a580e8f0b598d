"""From a bundle's files to what it adds to a base that is loaded already.

The bundle's model is put together without the base's weights (on the meta device), as the loading of bundles does it:
what has values then is the bundle's own.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lumora.bundle import About, names
from lumora.bundle.reading import check_head
from lumora.errors import BundleError, LumoraError
from lumora.lora import PeftModel, files
from lumora.lora.layers import Conv, Linear, LoraLayer
from lumora.lora.names import is_inside, is_inside_any
from lumora.lora.saved import ModulesToSaveWrapper
from lumora.models import Base, load_base
from lumora.serve.hosting.addition import Addition, Update

_KEPT = 8
"""Structures of one base that are kept."""


class NotSharedError(LumoraError):
    """A bundle changes its base in a way that cannot be a sample's own; it needs a base for itself."""


class Structures:
    """Bases without weights, with heads for so many labels; made once, and then copied."""

    def __init__(self) -> None:
        self._made: OrderedDict[int, Base] = OrderedDict()

    def of(self, about: About, name: str) -> Base:
        """A fresh structure for a bundle on the base of this name."""
        count = len(about.labels)
        if count not in self._made:
            self._made[count] = _structure(about, name)
        if len(self._made) > _KEPT:
            self._made.popitem(last=False)
        made = self._made[count]
        return dataclasses.replace(made, module=copy.deepcopy(made.module))


def _structure(about: About, name: str) -> Base:
    return load_base(
        name,
        task=about.task,
        labels=about.labels.names,
        head=about.base.head,
        width=about.base.width,
        preprocessing=about.preprocessing,
        meta=True,
    )


def extract(
    home: Path, about: About, structure: Base, originals: Mapping[str, nn.Module], device: torch.device
) -> Addition:
    """What the bundle in a folder adds to its base.

    Args:
        home: the folder.
        about: what the bundle says of itself.
        structure: of its base; it is changed.
        originals: the base's own modules by their paths.
        device: where the tensors are put.
    """
    if about.method == "head":
        addition = _of_head(files.read_tensors_of_file(home / names.WEIGHTS), structure, home)
    else:
        tensors = {
            key.removeprefix(files.PREFIX): tensor
            for key, tensor in files.read_adapter(files.Source(home)).tensors.items()
        }
        check_head(structure, tensors, about, home)
        addition = _of_adapter(PeftModel.from_pretrained(structure.module, home), originals)
    return _on(addition, device)


def _of_head(tensors: Mapping[str, Tensor], structure: Base, home: Path) -> Addition:
    """The trained head alone."""
    modules: dict[str, nn.Module] = {}
    outside = [name for name in tensors if not is_inside_any(name, structure.heads)]
    if outside:
        raise NotSharedError(f"The bundle {home} changes {outside[0]} without adapters.")
    for path in structure.heads:
        head = structure.module.get_submodule(path)
        # Copies: what was read may be the file itself, mapped into memory, and the file may be replaced.
        own = {name.removeprefix(f"{path}."): t.clone() for name, t in tensors.items() if is_inside(name, path)}
        try:
            head.load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise BundleError(f"The bundle {home} cannot be loaded: its head does not fit the base: {error}") from error
        modules[path] = head.requires_grad_(False).eval()
    return Addition(modules=modules)


def _of_adapter(model: PeftModel, originals: Mapping[str, nn.Module]) -> Addition:
    """Adapters, modules that were trained whole, and biases."""
    name = model.active_adapters[0]
    updates: dict[str, Update] = {}
    modules: dict[str, nn.Module] = {}
    taken: set[Tensor] = set()
    inside = model.get_base_model()
    for path, module in inside.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            own = module.modules_to_save[name].requires_grad_(False).eval()
            taken |= {*own.parameters(), *own.buffers()}
            modules[path] = own
        elif isinstance(module, LoraLayer):
            updates[path] = _update(module, name, path, originals[path], taken)
    lost = [
        path
        for path, tensor in (*inside.named_parameters(), *inside.named_buffers())
        if not tensor.is_meta and tensor not in taken
    ]
    if lost:
        raise NotSharedError(f"The bundle changes {lost[0]} in the base itself.")
    return Addition(updates, modules)


@torch.no_grad()
def _update(layer: LoraLayer, name: str, path: str, base: nn.Module, taken: set[Tensor]) -> Update:
    """What an adapter does to the output of a layer of the base, in the precision that the layer computes in."""
    if not isinstance(layer, Linear | Conv) or (isinstance(layer, Conv) and layer.dimensions != 2):
        raise NotSharedError(f"{path} is a {type(base).__name__}, whose adapters are no sample's own here.")
    site = layer.sites[0]
    a, b, lora_bias = layer.site_factors(name, site)
    taken |= set(layer.parameters_of(name))
    scaling, bias, trained = layer.adapters[name].scaling, base._parameters.get("bias"), None
    if (own := layer.base_layer._parameters.get("bias")) is not None and not own.is_meta:
        taken.add(own)
        trained = own.detach()
    weight = base.get_parameter("weight").detach().cpu()
    stretch = None
    if layer.adapters[name].use_dora:
        magnitude = layer.lora_magnitude_vector[name].get_parameter("weight").detach()
        stretch = magnitude.flatten() / layer.output_lengths((a, b), site, scaling, weight)
    shift = None if lora_bias is None else scaling * lora_bias * (1 if stretch is None else stretch)
    if bias is not None and (stretch is not None or trained is not None):
        before = bias.detach().cpu()
        change = (before if trained is None else trained) - (before if stretch is None else stretch * before)
        shift = change if shift is None else shift + change
    second = scaling * (b.flatten(1) if stretch is None else stretch[:, None] * b.flatten(1))
    kind, parts = base.get_parameter("weight").dtype, (a.detach().clone(), second.detach(), stretch, shift)
    return Update(*(None if part is None else part.to(kind) for part in parts))


def _on(addition: Addition, device: torch.device) -> Addition:
    """The same on a device; a module that still lacks values is an error."""
    for path, module in addition.modules.items():
        if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
            raise NotSharedError(f"{path} has parts that no file holds.")
    updates = {
        path: dataclasses.replace(
            update,
            **{
                part: None if (tensor := getattr(update, part)) is None else tensor.to(device).contiguous()
                for part in ("a", "b", "stretch", "shift")
            },
        )
        for path, update in addition.updates.items()
    }
    return Addition(updates, {path: module.to(device) for path, module in addition.modules.items()})
