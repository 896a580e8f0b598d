"""Give an adapter other weights in place: for servers that show a compiled model one adapter after the other.

The model's tensors, names and structure stay, so nothing is compiled anew. Another alpha is no trouble at any time.
Another rank replaces tensors, unless `prepare_model_for_compiled_hotswap` made room for it before.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from lumora.errors import (
    AdapterError,
    AdapterFileError,
    AdapterKeyError,
    AdapterShapeError,
    PeftWarning,
    UnknownAdapterError,
)
from lumora.lora import files, hub, padding, renamed
from lumora.lora.config import LoraConfig
from lumora.lora.initial import magnitude_for
from lumora.lora.inject import lora_layers
from lumora.lora.layers import LoraLayer
from lumora.lora.names import pattern_value
from lumora.lora.saved import ModulesToSaveWrapper
from lumora.lora.targets import base_modules


def prepare_model_for_compiled_hotswap(
    model: nn.Module,
    *,
    target_rank: int | None = None,
    config: LoraConfig | dict[str, LoraConfig] | None = None,
    check_compiled: Literal["error", "warn", "ignore"] = "error",
) -> None:
    """Make room for adapters of up to `target_rank`, so that swapping them in recompiles nothing.

    Call it before compiling. Outputs stay the same, and so does what is saved. Costs the extra rows and
    columns, in memory and in each product.

    Args:
        model: a model with adapters, not compiled yet.
        target_rank: the largest rank that will be swapped in; None makes no room (alphas may differ all the same).
        config: kept for PEFT's callers; the configurations go on saying the true ranks.
        check_compiled: what to do when the model is compiled already, and would be compiled again.
    """
    if check_compiled not in ("error", "warn", "ignore"):
        raise AdapterError(f"check_compiled is {check_compiled!r}; choose 'error', 'warn' or 'ignore'.")
    if isinstance(getattr(model, "_orig_mod", None), nn.Module) or getattr(model, "_compiled_call_impl", None):
        message = "The model is compiled already; make room for larger ranks before torch.compile."
        if check_compiled == "error":
            raise AdapterError(message)
        if check_compiled == "warn":
            warnings.warn(message, PeftWarning, stacklevel=2)
    layers = list(lora_layers(model))
    if not layers:
        raise AdapterError(f"{type(model).__name__} has no adapters yet; load the first one before making room.")
    if target_rank is None:
        return
    pairs = [(layer, name) for layer in layers for name in layer.adapters]
    for layer, name in pairs:
        padding.check_room(layer, name, target_rank)
    for layer, name in pairs:
        padding.pad(layer, name, target_rank)


def hotswap_adapter(
    model: nn.Module,
    model_name_or_path: str | os.PathLike[str],
    adapter_name: str,
    torch_device: str | None = None,
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    key_mapping: Mapping[str, str] | None = None,
) -> None:
    """Replace an adapter by a saved one, under the same name and in the same tensors.

    Layers that the new adapter does not have go back to the base; where the old one took part of the base (PiSSA,
    OLoRA), that is not known any more, and an adapter that began otherwise is refused. Everything is checked before
    anything is changed.

    Args:
        model: a model with the adapter; compiled or not.
        model_name_or_path: the folder of the new adapter, or its repository on the Hub.
        adapter_name: the adapter that is replaced.
        torch_device: kept for PEFT's callers; tensors go where the old ones are.
        subfolder: where in the folder the new adapter lies.
        revision: branch, tag or commit on the Hub.
        token: an access token for the Hub.
        cache_dir: where downloads are kept.
        local_files_only: do not ask the Hub.
        force_download: fetch again what is cached.
        key_mapping: regular expression -> replacement, applied to the names in the file.
    """
    options = hub.HubOptions(revision, token, cache_dir, local_files_only, force_download)
    stored = files.read_adapter(files.Source(model_name_or_path, subfolder, options, key_mapping))
    hotswap_adapter_from_state_dict(model, stored.tensors, adapter_name, stored.config)


@dataclass
class _Change:
    """What becomes of an adapter in one layer; without factors it goes to rest there."""

    layer: LoraLayer
    alpha: float
    factors: tuple[Tensor, Tensor] | None


@torch.no_grad()
def hotswap_adapter_from_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], adapter_name: str, config: LoraConfig
) -> None:
    """The same with tensors that are at hand, under the keys that they have in files."""
    root, _ = files.root_of(model)
    known: dict[str, LoraConfig] = getattr(root, "peft_config", {})
    if adapter_name not in known:
        raise UnknownAdapterError(f"There is no adapter {adapter_name!r} to replace; there are {list(known)}.")
    _check_alike(known[adapter_name], config)
    slots = dict(files.slots_of(model, adapter_name))
    prefixed = {k if k.startswith(files.PREFIX) else files.PREFIX + k: v for k, v in state_dict.items()}
    moved = renamed.current_names(prefixed, slots)
    tensors = {moved[key]: value for key, value in prefixed.items()}
    changes = _changes(root, adapter_name, config, slots, tensors)
    _check_same_rest(changes, adapter_name, config)
    originals = _originals(root, adapter_name)
    values = {key: value for key in slots if (value := tensors.pop(key, originals.get(key))) is not None}
    _check_places(slots, values, tensors)
    for change in changes:
        _write(change, adapter_name, config)
    for key, slot in slots.items():
        slot.fill(values[key])
    known[adapter_name] = replace(config, inference_mode=known[adapter_name].inference_mode)


def _check_alike(old: LoraConfig, new: LoraConfig) -> None:
    """Refuse what would change the structure of layers, or belongs to another base."""
    files.check_same_base(old, new)
    differing = [f for f in ("use_dora", "lora_bias") if getattr(old, f) != getattr(new, f)]
    if differing:
        raise AdapterError(
            f"The adapters differ in {' and '.join(differing)}, for which layers need other parts; load the new one "
            "with load_adapter(path, another_name) instead."
        )


def _changes(
    root: nn.Module, name: str, config: LoraConfig, slots: dict[str, files.Slot], tensors: dict[str, Tensor]
) -> list[_Change]:
    """What each layer gets; takes the factors out of `slots` and `tensors`."""
    actual = {module: path for path, module in root.named_modules() if isinstance(module, LoraLayer)}
    changes: list[_Change] = []
    wrong: list[str] = []
    alphas: dict[str, float] = {}
    for path, layer in base_modules(root):
        if not isinstance(layer, LoraLayer) or name not in layer.adapters:
            continue
        if name in layer.merged_adapters:
            raise AdapterError(f"Adapter {name!r} is merged; call unmerge_adapter() before replacing it.")
        above = f"{files.PREFIX}{actual[layer]}."
        keys = _EMBEDDING_FACTORS if name in layer.lora_embedding_A else _FACTORS
        a, b = (tensors.pop(above + key, None) for key in keys)
        for key in keys if a is not None else (*keys, *_BESIDE_FACTORS):
            slots.pop(above + key, None)
        # What is adapted along with the layer around it has its alpha.
        alpha = pattern_value(path, config.alpha_pattern, alphas.get(path.rpartition(".")[0], config.lora_alpha))
        alphas[path] = alpha
        if a is None and b is None:
            changes.append(_Change(layer, alpha, None))
        elif a is None or b is None or not padding.fits(layer, name, a, b):
            wrong.append(path)
        else:
            changes.append(_Change(layer, alpha, (a, b)))
    if wrong:
        raise AdapterShapeError(f"The new adapter's factors do not fit these layers: {', '.join(wrong)}.")
    return changes


_FACTORS = ("lora_A.weight", "lora_B.weight")
_EMBEDDING_FACTORS = ("lora_embedding_A", "lora_embedding_B")
_BESIDE_FACTORS = ("lora_B.bias", "lora_magnitude_vector")


def _check_same_rest(changes: list[_Change], name: str, config: LoraConfig) -> None:
    """Refuse where the new adapter's start would have left something else of a layer of the base."""
    if not config.moves_base:
        return
    others = [change for change in changes if not _leaves_the_same(change, name, config)]
    if others:
        raise AdapterFileError(
            f"The new adapter began with another part of the base (init_lora_weights={config.init_lora_weights!r}, and "
            f"another rank, alpha or choice of layers) in {len(others)} of {len(changes)} layers. Load it into a base "
            "without adapters."
        )


def _leaves_the_same(change: _Change, name: str, config: LoraConfig) -> bool:
    layer, adapter = change.layer, change.layer.adapters[name]
    if change.factors is None or layer.first_factor_view(change.factors[0]).shape[0] != adapter.r:
        return False
    # What PiSSA takes is the same for every alpha.
    return config.init_lora_weights != "olora" or (change.alpha, config.use_rslora) == (
        adapter.alpha,
        adapter.use_rslora,
    )


def _originals(root: nn.Module, name: str) -> dict[str, Tensor]:
    """What modules that an adapter trains whole go back to when the new adapter does not have them."""
    return {
        f"{files.PREFIX}{path}.{key}": value
        for path, module in root.named_modules()
        if isinstance(module, ModulesToSaveWrapper) and name in module.modules_to_save
        for key, value in module.original_module.state_dict().items()
    }


def _check_places(slots: Mapping[str, files.Slot], values: Mapping[str, Tensor], left: Mapping[str, Tensor]) -> None:
    if left:
        raise AdapterKeyError(
            f"The new adapter has parts for which the old one has no place: {', '.join(list(left)[:5])}"
            f"{', ...' if len(left) > 5 else ''}. Start with the adapter that targets most, or use load_adapter."
        )
    missing = [key for key in slots if key not in values]
    if missing:
        raise AdapterKeyError(
            f"The new adapter lacks {', '.join(missing[:5])}; what these were before training is not known any more."
        )
    sizes = [key for key, value in values.items() if value.shape != slots[key].tensor.shape]
    if sizes:
        raise AdapterShapeError(f"These parts of the new adapter have other sizes: {', '.join(sizes[:5])}.")


def _write(change: _Change, name: str, config: LoraConfig) -> None:
    layer, adapter = change.layer, change.layer.adapters[name]
    adapter.alpha, adapter.use_rslora = change.alpha, config.use_rslora
    if change.factors is not None:
        padding.write(layer, name, *change.factors)
    else:
        for parameter in layer.parameters_of(name):
            parameter.zero_()
        if adapter.use_dora:
            magnitude = magnitude_for(layer, layer.factors(name), adapter.scaling).weight
            layer.lora_magnitude_vector[name].get_parameter("weight").copy_(magnitude)
    dropout = layer.lora_dropout[name]
    if getattr(dropout, "p", 0.0) != config.lora_dropout:
        layer.lora_dropout[name] = nn.Dropout(config.lora_dropout) if config.lora_dropout else nn.Identity()
        layer.lora_dropout[name].train(dropout.training)
    layer.set_strength(name, 1.0)
