"""What an adapter folder holds, read without loading it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from lumora.errors import AdapterFileError
from lumora.lora import files, hub
from lumora.lora.config import LoraConfig
from lumora.models import places
from lumora.models.groups import collapse
from lumora.paths import at_home

if TYPE_CHECKING:
    from torch import Tensor

_FACTOR = re.compile(r"(?P<path>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)\b")
_OF_THE_FILE = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version")
"""Fields that say where an adapter comes from, not what it is."""

_STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one kind at the same place of different blocks."""

    path: str
    kind: str
    rank: int | None
    count: int
    """How many modules."""
    parameters: int
    bytes: int


@dataclass(frozen=True)
class AdapterSurvey:
    """An adapter as it lies on disk."""

    base: str | None
    config: dict[str, Any]
    """What differs from the defaults."""
    groups: tuple[TensorGroup, ...]
    parameters: int
    bytes: int
    """The size of the file with the tensors."""
    note: str | None


@dataclass(frozen=True)
class _Stored:
    """A tensor by its header."""

    key: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def parameters(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return size


def survey(name: str) -> AdapterSurvey:
    """Look at an adapter, here or on the Hub. Only the headers of its tensors are read, and never a pickle."""
    config_file = places.find(name, places.ADAPTER_CONFIG)
    config = files.parse_config(config_file)
    weights, note = _weights(name, config_file), None
    stored: list[_Stored] = []
    if weights.suffix == ".safetensors":
        stored = _headers(weights)
    else:
        note = f"{weights.name} is a pickle, which can run any code when it is opened; it was not opened."
    return AdapterSurvey(
        base=config.base_model_name_or_path,
        config=_unusual(config),
        groups=_groups(stored),
        parameters=sum(tensor.parameters for tensor in stored),
        bytes=weights.stat().st_size,
        note=note,
    )


def groups_of(tensors: Mapping[str, Tensor]) -> tuple[TensorGroup, ...]:
    """The same of tensors that are at hand, under the names that an adapter's file or a state dict has for them."""
    return _groups([_Stored(key, tuple(t.shape), t.numel() * t.element_size()) for key, t in tensors.items()])


def groups_in(path: Path) -> tuple[TensorGroup, ...]:
    """The same of the tensors of a safetensors file, of which only the header is read."""
    return _groups(_headers(path))


def _weights(name: str, config_file: Path) -> Path:
    for file in (files.WEIGHTS, files.PICKLE):
        path = config_file.parent / file
        if not path.is_file() and not at_home(name).is_dir():
            path = hub.fetch(name, file, hub.HubOptions(), required=False)
        if path is not None and path.is_file():
            return path
    raise AdapterFileError(f"{name} has a {files.CONFIG} but no {files.WEIGHTS}; the adapter was not saved whole.")


def _headers(path: Path) -> list[_Stored]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return [_Stored(k, tuple(s.get_shape()), _size(s.get_shape(), s.get_dtype())) for k, s in slices.items()]
    except (safetensors.SafetensorError, OSError) as error:
        raise AdapterFileError(f"{path} is damaged ({error}). Copy or download it again.") from error


def _size(shape: Iterable[int], dtype: str) -> int:
    """Bytes of a tensor; the names of types end with their bits (`F32`, `BF16`, `F8_E4M3`), but for `BOOL`."""
    bits = re.search(r"\d+", dtype)
    size = int(bits.group()) // 8 if bits else 1
    for length in shape:
        size *= length
    return size


def _unusual(config: LoraConfig) -> dict[str, Any]:
    usual = LoraConfig().to_dict()
    return {k: v for k, v in config.to_dict().items() if v != usual[k] and k not in _OF_THE_FILE}


def _groups(stored: list[_Stored]) -> tuple[TensorGroup, ...]:
    modules: dict[str, list[_Stored]] = {}
    for tensor in stored:
        modules.setdefault(_module(tensor.key), []).append(tensor)
    members: dict[tuple[str, str, int | None], list[list[_Stored]]] = {}
    for path, tensors in modules.items():
        members.setdefault((collapse(path), *_kind(tensors)), []).append(tensors)
    return tuple(
        TensorGroup(
            path=path,
            kind=kind,
            rank=rank,
            count=len(group),
            parameters=sum(tensor.parameters for tensors in group for tensor in tensors),
            bytes=sum(tensor.bytes for tensors in group for tensor in tensors),
        )
        for (path, kind, rank), group in members.items()
    )


def _module(key: str) -> str:
    """The path, in the base model, of the module that a tensor belongs to."""
    key = key.removeprefix(files.PREFIX)
    found = _FACTOR.match(key)
    path = found["path"] if found else key.rpartition(".")[0]
    return ".".join(part for part in path.split(".") if part != "base_layer")


def _kind(tensors: list[_Stored]) -> tuple[str, int | None]:
    """What is stored for a module, and its rank."""
    shapes = {found["part"]: t.shape for t in tensors if (found := _FACTOR.match(t.key))}
    if not shapes:
        return _plain_kind({tensor.key.rpartition(".")[2] for tensor in tensors}), None
    first = next((shapes[part] for part in ("lora_A", "lora_embedding_A") if part in shapes), ())
    kind = "linear" if len(first) <= 2 else f"conv{len(first) - 2}d"
    if "lora_embedding_A" in shapes:
        kind = "embedding"
    if "lora_magnitude_vector" in shapes:
        kind += ", DoRA"
    if any(tensor.key.endswith(".base_layer.bias") for tensor in tensors):
        kind += ", bias"
    return kind, first[0] if first else None


def _plain_kind(names: set[str]) -> str:
    """What is stored for a module without factors."""
    if names - {"bias"} - _STATISTICS:
        return "saved whole"
    return ", ".join(["bias"] * ("bias" in names) + ["statistics"] * bool(names & _STATISTICS))
