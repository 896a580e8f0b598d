"""State dicts of a part of a model: one adapter, or the base without adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import Tensor, nn

from lumora.errors import AdapterError, AdapterKeyError, UnknownAdapterError
from lumora.lora import files, inject
from lumora.lora.files import LoadResult
from lumora.lora.layers import LoraLayer
from lumora.lora.saved import ModulesToSaveWrapper


def get_peft_model_state_dict(
    model: nn.Module,
    state_dict: Mapping[str, Tensor] | None = None,
    adapter_name: str = "default",
    unwrap_compiled: bool = False,
    save_embedding_layers: bool | Literal["auto"] = "auto",
) -> dict[str, Tensor]:
    """Return an adapter's tensors, saved modules and trained biases under the keys of its file, without its name.

    The tensors are the model's own, not copies.

    Args:
        model: a `PeftModel`, or a model that an adapter was injected into (whose keys then start at the model itself).
        state_dict: take the tensors out of this state dict of the whole model (gathered from shards, say).
        adapter_name: which adapter.
        unwrap_compiled: kept for PEFT's callers; the keys never speak of compiling.
        save_embedding_layers: kept for PEFT's callers; embeddings that are adapted or saved are always there.
    """
    above = _above(model, adapter_name)
    tensors = files.adapter_state_dict(model, adapter_name, state_dict)
    return {above + key.removeprefix(files.PREFIX): value for key, value in tensors.items()}


def set_peft_model_state_dict(
    model: nn.Module,
    peft_model_state_dict: Mapping[str, Tensor],
    adapter_name: str = "default",
    ignore_mismatched_sizes: bool = False,
    low_cpu_mem_usage: bool = False,
) -> LoadResult:
    """Copy tensors, under the keys of an adapter's file, into an adapter that the model has already.

    Tensors that are missing keep their values, with a warning. Returns which these were, and which keys had no place.

    Args:
        model: a `PeftModel`, or a model that an adapter was injected into.
        peft_model_state_dict: what `get_peft_model_state_dict` returns, or a file's tensors.
        adapter_name: which adapter.
        ignore_mismatched_sizes: leave out tensors of another size instead of refusing.
        low_cpu_mem_usage: kept for PEFT's callers; factors without storage get it when they are filled.
    """
    above = _above(model, adapter_name)
    given = {files.PREFIX + k.removeprefix(files.PREFIX).removeprefix(above): k for k in peft_model_state_dict}
    tensors = {key: peft_model_state_dict[own] for key, own in given.items()}
    slots = dict(files.slots_of(model, adapter_name))
    result = files.load_tensors(model, tensors, adapter_name, ignore_mismatched_sizes=ignore_mismatched_sizes)
    missing = [slots[key].path.removeprefix("_orig_mod.") if key in slots else key for key in result.missing_keys]
    return LoadResult(missing, [given.get(key, key) for key in result.unexpected_keys])


def get_base_model_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the base's state dict as if there were no adapters in it; while they are merged, the merged weights."""
    root, _ = files.root_of(model)
    tensors = root.state_dict()
    return {plain: tensors[actual] for actual, plain in _base_keys(root) if actual in tensors}


def set_base_model_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True) -> LoadResult:
    """Load a state dict of the base into the base inside an adapted model; adapters stay as they are.

    `strict` refuses missing and unexpected keys, before anything is changed; else they are returned.
    """
    root, _ = files.root_of(model)
    if any(layer.merged for layer in inject.lora_layers(root)):
        raise AdapterError(
            "Adapters are merged into the base's weights; call unmerge_adapter() before replacing these."
        )
    present = root.state_dict()
    actual_of = {plain: actual for actual, plain in _base_keys(root) if actual in present}
    result = LoadResult([k for k in actual_of if k not in state_dict], [k for k in state_dict if k not in actual_of])
    if strict and (result.missing_keys or result.unexpected_keys):
        raise AdapterKeyError(
            f"The state dict is not that of {type(root).__name__}: missing {result.missing_keys[:5]}, "
            f"unexpected {result.unexpected_keys[:5]}. Nothing was loaded; strict=False loads what fits."
        )
    root.load_state_dict({actual_of[k]: v for k, v in state_dict.items() if k in actual_of}, strict=False)
    return result


def _above(model: nn.Module, name: str) -> str:
    """Where the base lies in the model, when the model has such an adapter."""
    root, above = files.root_of(model)
    known = getattr(root, "peft_config", {})
    if name not in known:
        raise UnknownAdapterError(f"There is no adapter {name!r} in {type(root).__name__}; there are {list(known)}.")
    return above.replace("_orig_mod.", "")


def _base_keys(root: nn.Module) -> Iterator[tuple[str, str]]:
    """Every key of the base in the adapted model's state dict, with the key that it has without adapters."""

    def walk(module: nn.Module, actual: str, plain: str) -> Iterator[tuple[str, str]]:
        if isinstance(module, LoraLayer):
            yield from walk(module.base_layer, f"{actual}base_layer.", plain)
        elif isinstance(module, ModulesToSaveWrapper):
            yield from walk(module.original_module, f"{actual}original_module.", plain)
        else:
            for name in (*module._parameters, *module._buffers, "_extra_state"):
                yield actual + name, plain + name
            for name, child in module.named_children():
                yield from walk(child, f"{actual}{name}.", f"{plain}{name}.")

    return walk(root, "", "")
