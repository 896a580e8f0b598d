"""Putting a stored adapter into a model: all of it or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lumora.errors import AdapterFileError, AdapterShapeError, PeftWarning
from lumora.lora import inject, renamed
from lumora.lora.config import LoraConfig
from lumora.lora.files.layout import expected_tensors, root_of, slots_of
from lumora.lora.files.reading import prefixed, with_keys


class LoadResult(NamedTuple):
    """Keys that the file lacked, and keys of the file that found no place."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def check_fits(
    model: nn.Module,
    config: LoraConfig,
    tensors: Mapping[str, Tensor],
    name: str,
    *,
    ignore_mismatched_sizes: bool = False,
    strict: bool = True,
) -> None:
    """Raise if a stored adapter does not fit a model, before either is touched. One message names everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        planned = inject.plan(model, config, name, on_meta=True, strict=False)
    expected = dict(expected_tensors(model, planned))
    given = _with_current_names(tensors, expected)
    _check(type(root_of(model)[0]).__name__, given, expected, ignore_mismatched_sizes, strict)


def check_same_base(here: LoraConfig, read: LoraConfig) -> None:
    """Raise if an adapter was learnt on what another one's start has left of the base."""
    if (here.moves_base or read.moves_base) and here.init_lora_weights != read.init_lora_weights:
        raise AdapterFileError(
            f"The adapters began otherwise: init_lora_weights is {read.init_lora_weights!r} in the file and "
            f"{here.init_lora_weights!r} in the model, and each leaves another part of the base. Load it into a base "
            "without adapters."
        )


def check_same_arithmetic(here: LoraConfig, read: LoraConfig, name: str) -> None:
    """Raise if an adapter's tensors would mean something else under the configuration that it has in the model."""
    fields = ("r", "lora_alpha", "use_rslora", "use_dora", "lora_bias", "rank_pattern", "alpha_pattern")
    check_same_base(here, read)
    if differ := [f for f in fields if getattr(here, f) != getattr(read, f)]:
        listed = ", ".join(f"{f} {getattr(read, f)!r} instead of {getattr(here, f)!r}" for f in differ)
        raise AdapterFileError(
            f"The file cannot be read into adapter {name!r}: it has {listed}. Load it under another name, or "
            "delete the adapter first."
        )


def load_tensors(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    name: str,
    *,
    ignore_mismatched_sizes: bool = False,
    strict: bool = False,
) -> LoadResult:
    """Copy an adapter's tensors into a model that has an adapter of that name: all that fit, or, on error, none."""
    slots = dict(slots_of(model, name))
    expected = {key: slot.tensor for key, slot in slots.items()}
    given = _with_current_names(with_keys(tensors, prefixed), expected)
    _check(type(root_of(model)[0]).__name__, given, expected, ignore_mismatched_sizes, strict)
    if ignore_mismatched_sizes:
        given = {k: v for k, v in given.items() if k not in expected or v.shape == expected[k].shape}
    missing, unexpected = _difference(given, expected)
    if missing:
        warnings.warn(
            f"The adapter's file lacks {len(missing)} tensors, which keep their starting values: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}",
            PeftWarning,
            stacklevel=3,
        )
    with torch.no_grad():
        for key, slot in slots.items():
            if key in given:
                slot.fill(given[key])
    return LoadResult(missing, unexpected)


def _check(
    model: str,
    given: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    ignore_mismatched_sizes: bool,
    strict: bool,
) -> None:
    """Raise one error that names every tensor of a file that does not fit."""
    both = {key: (given[key], tensor) for key, tensor in expected.items() if key in given}
    sizes = [
        f"{key}: {tuple(new.shape)} instead of {tuple(old.shape)}"
        for key, (new, old) in both.items()
        if new.shape != old.shape
    ]
    kinds = [
        f"{key}: {new.dtype} instead of {old.dtype}"
        for key, (new, old) in both.items()
        if new.is_floating_point() != old.is_floating_point() or new.is_complex()
    ]
    if sizes and not ignore_mismatched_sizes:
        raise AdapterShapeError(
            "Tensors of the adapter have other sizes than the model's; nothing was loaded.\n"
            + _listed("of another size", sizes)
            + "  Is this the base it was trained on? A head for another number of labels?"
        )
    if kinds:
        raise AdapterFileError(
            "Tensors of the adapter hold another kind of number than the model's; nothing was loaded.\n"
            + _listed("of another kind", kinds)
        )
    missing, unexpected = _difference(given, expected)
    if strict and (missing or unexpected):
        raise AdapterFileError(
            f"The adapter does not fit {model}; nothing was loaded.\n"
            + _listed("missing from the file", missing)
            + _listed("without a place in the model", unexpected)
            + "  Is this the base it was trained on? strict=False loads what fits."
        )


def _difference(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    return [k for k in expected if k not in given], [k for k in given if k not in expected]


def _listed(what: str, lines: list[str]) -> str:
    if not lines:
        return ""
    more = f"\n      ... and {len(lines) - 8} more" if len(lines) > 8 else ""
    return f"  - {len(lines)} {what}:\n" + "\n".join(f"      {line}" for line in lines[:8]) + more + "\n"


def _with_current_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Keys of layers that their library has renamed since, under the names they have now."""
    moved = renamed.current_names(tensors, expected)
    return with_keys(tensors, moved.__getitem__)
