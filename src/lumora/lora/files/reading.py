"""Reading an adapter's folder, or its repository on the Hub, whole and warily. No model is touched here."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lumora.errors import AdapterFileError, LumoraError, LumoraWarning
from lumora.lora import hub
from lumora.lora.config import LoraConfig
from lumora.lora.files.configuration import parse_config, read_json
from lumora.lora.files.names import CONFIG, OURS, PICKLE, PREFIX, WEIGHTS

_REPEAT = re.compile(r"\.(modules_to_save|original_module)\.")


@dataclass(frozen=True)
class Source:
    """Where an adapter is read from, and how."""

    where: str | os.PathLike[str]
    subfolder: str | None = None
    options: hub.HubOptions = field(default_factory=hub.HubOptions)
    key_mapping: Mapping[str, str] | None = None
    allow_pickle: bool = False


class Stored(NamedTuple):
    """What an adapter folder holds."""

    config: LoraConfig
    tensors: dict[str, Tensor]


def read_config(
    where: str | os.PathLike[str], *, subfolder: str | None = None, options: hub.HubOptions | None = None
) -> LoraConfig:
    """Read `adapter_config.json` of a folder or of a repository on the Hub."""
    source = Source(where, subfolder, options or hub.HubOptions())
    path = locate(source, CONFIG)
    if path is None:
        raise AdapterFileError(
            f"Can't find {CONFIG!r} at {str(where)!r}; expected the folder of a saved adapter.{_elsewhere(source)}"
        )
    return parse_config(path)


def read_adapter(source: Source, config: LoraConfig | None = None) -> Stored:
    """Read an adapter folder completely. Nothing but the files is touched."""
    config = config or read_config(source.where, subfolder=source.subfolder, options=source.options)
    tensors = _read_tensors(source)
    for pattern, replacement in (source.key_mapping or {}).items():
        tensors = with_keys(tensors, partial(re.sub, pattern, replacement))
    tensors = _without_repeats(with_keys(tensors, prefixed))
    if any(".base_layer.out_proj.lora_A" in key for key in tensors) and not _counts_attention_once(source):
        warnings.warn(
            f"{source.where}: PEFT adds the update of an nn.MultiheadAttention's output projection twice when it runs "
            "such an adapter. Lumora adds it once, as the adapter's definition says, so outputs differ from those in "
            "training.",
            LumoraWarning,
            stacklevel=3,
        )
    return Stored(config, tensors)


def read_tensors_of_file(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a damaged one is an error that says so."""
    try:
        with path.open("rb"):  # safetensors calls every file damaged that it cannot open
            pass
    except OSError as error:
        raise AdapterFileError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise AdapterFileError(
            f"{path} is damaged ({error}). Copy or download it again; nothing was loaded."
        ) from error


def _read_tensors(source: Source) -> dict[str, Tensor]:
    if (path := locate(source, WEIGHTS)) is not None:
        return read_tensors_of_file(path)
    path = locate(source, PICKLE, download=source.allow_pickle)
    if path is None:
        raise AdapterFileError(f"{source.where} has a configuration but no {WEIGHTS}; the adapter was not saved whole.")
    if not source.allow_pickle:
        raise AdapterFileError(
            f"{path} is a pickle, which can run any code when it is opened; it was not opened. If you trust it, pass "
            "allow_pickle=True once and save the adapter again with save_pretrained()."
        )
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise AdapterFileError(
            f"{path} holds more than tensors, or is damaged ({error}); it was not loaded."
        ) from error
    if not isinstance(values, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in values.items()):
        raise AdapterFileError(f"{path} is no dictionary of tensors.")
    return values


def locate(source: Source, name: str, *, download: bool = True) -> Path | None:
    """The local path of an adapter's file, fetched from the Hub if need be; None when there is none.

    With `download=False` a file on the Hub is looked for and left there.
    """
    subfolder = source.subfolder or ""
    inside = Path(subfolder)
    if inside.is_absolute() or ".." in inside.parts:
        raise AdapterFileError(f"subfolder {subfolder!r} leaves the adapter's folder; give a path inside it.")
    folder = Path(source.where)
    if _exists(folder, stat.S_ISDIR):
        path = folder / inside / name
        return path if _exists(path, stat.S_ISREG) else None
    if os.path.lexists(folder):
        raise AdapterFileError(f"{folder} is no folder; give the one that holds {CONFIG} and {WEIGHTS}.")
    return hub.fetch(
        str(source.where), (inside / name).as_posix(), source.options, required=name == CONFIG, download=download
    )


def _exists(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path leads to a file or folder; names that no file can have lead to none."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _elsewhere(source: Source) -> str:
    """Where else in a folder adapters lie: all but the one called `default` have sub-folders."""
    folder = Path(source.where)
    found = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}")) if not source.subfolder else []
    return f" There are adapters in its sub-folders; give subfolder={found[0]!r} (of {found[:8]})." if found else ""


def _counts_attention_once(source: Source) -> bool:
    try:
        path = locate(source, CONFIG)
        ours = read_json(path).get(OURS) if path else None
    except LumoraError:  # the caller gave a configuration in place of the file's
        return False
    return isinstance(ours, dict) and "attention" in ours


def with_keys(tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    """The same tensors under other keys; two under one is an error, since one of them would be lost."""
    moved: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if (new := rename(key)) in moved:
            raise AdapterFileError(f"Two tensors of the adapter belong to one place, {new!r}; nothing was loaded.")
        moved[new] = value
    return moved


def _without_repeats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what PEFT writes besides a saved module's own tensors with `bias="all"`: its biases two times more."""
    repeats = {key: _REPEAT.sub(".", key) for key in tensors if _REPEAT.search(key)}
    return {key: value for key, value in tensors.items() if repeats.get(key) not in tensors}


def prefixed(key: str) -> str:
    """A key as PEFT writes it; models without a wrapper leave its start out."""
    return key if key.startswith(PREFIX) else PREFIX + key
