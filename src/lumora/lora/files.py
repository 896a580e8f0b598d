"""PEFT's files: the only place that knows their names, keys and JSON.

An adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`. Everything is read and checked
before a model is touched, and written to a temporary name before it takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lumora.errors import AdapterFileError, AdapterShapeError, ConfigError, LumoraError, LumoraWarning, PeftWarning
from lumora.lora import hub, inject, padding, renamed
from lumora.lora.adapter import Parts
from lumora.lora.config import LoraConfig, PeftConfig
from lumora.lora.layers import ConvTranspose, LentLinear, LoraLayer, MultiheadAttention
from lumora.lora.saved import ModulesToSaveWrapper

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
CARD = "README.md"
PREFIX = "base_model.model."
DEFAULT = "default"
FORMAT_VERSION = "0.21.2"
"""The version of PEFT whose files these are."""

_MOST_JSON = 16 * 2**20
_REPEAT = re.compile(r"\.(modules_to_save|original_module)\.")
_OURS = "lumora"
"""The one key of ours in the JSON, there only if there is something that PEFT cannot say."""


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


class LoadResult(NamedTuple):
    """Keys that the file lacked, and keys of the file that found no place."""

    missing_keys: list[str]
    unexpected_keys: list[str]


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


# --- the configuration ------------------------------------------------------------------------------------------------


def read_config(
    where: str | os.PathLike[str], *, subfolder: str | None = None, options: hub.HubOptions | None = None
) -> LoraConfig:
    """Read `adapter_config.json` of a folder or of a repository on the Hub."""
    source = Source(where, subfolder, options or hub.HubOptions())
    path = _locate(source, CONFIG)
    if path is None:
        raise AdapterFileError(
            f"Can't find {CONFIG!r} at {str(where)!r}; expected the folder of a saved adapter.{_elsewhere(source)}"
        )
    return parse_config(path)


def parse_config(path: Path) -> LoraConfig:
    """Read a configuration file, refusing by name what it asks for that Lumora does not do."""
    values = _read_json(path)
    if "peft_type" not in values:
        raise AdapterFileError(f"{path} holds no adapter configuration: it must be an object with a 'peft_type'.")
    ours = values.pop(_OURS, None)
    if isinstance(ours, dict) and "batch_norm" in ours:
        values["batch_norm"] = ours["batch_norm"]
    if values["peft_type"] != "LORA":
        raise AdapterFileError(f"{path} is a {_short(values['peft_type'])} adapter; Lumora reads LORA adapters.")
    known = {f.name for f in dataclasses.fields(LoraConfig)}
    defaults = LoraConfig.unsupported_defaults
    foreign = {k: v for k, v in values.items() if k not in known and k != "runtime_config"}
    refused = {k: v for k, v in foreign.items() if (v != defaults[k] if k in defaults else bool(v))}
    if refused:
        listed = ", ".join(f"{k}={_short(v)}" for k, v in sorted(refused.items()))
        raise AdapterFileError(f"{path} uses what Lumora does not support: {listed}. It cannot be loaded faithfully.")
    try:
        return LoraConfig(**{k: v for k, v in values.items() if k in known})
    except (ConfigError, TypeError) as error:
        raise AdapterFileError(f"{path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= _MOST_JSON else b""
    except OSError as error:
        raise AdapterFileError(f"{path} cannot be read: {error.strerror}.") from error
    if size > _MOST_JSON:
        raise AdapterFileError(f"{path} is {size:,} bytes; a configuration is a few kilobytes.")
    try:
        values = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise AdapterFileError(f"{path} is not JSON: {error}. Save the adapter again, or copy it anew.") from error
    if not isinstance(values, dict):
        raise AdapterFileError(f"{path} holds no adapter configuration: it must be an object with a 'peft_type'.")
    return values


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def write_config(config: PeftConfig, folder: str | os.PathLike[str]) -> None:
    """Write `adapter_config.json` as PEFT does: every field, sorted, two spaces."""
    _write_together(Path(folder), {CONFIG: _text_writer(_config_text(config, {}))})


def _config_text(config: PeftConfig, ours: Mapping[str, Any]) -> str:
    values = {**config.unsupported_defaults, **config.to_dict(), "inference_mode": True}
    values["peft_version"] = FORMAT_VERSION
    batch_norm = values.pop("batch_norm", "frozen")
    extra = dict(ours)
    if batch_norm != "frozen":
        extra["batch_norm"] = batch_norm
    if extra:
        values[_OURS] = extra
    return json.dumps(values, indent=2, sort_keys=True)


def model_config(model: nn.Module) -> dict[str, Any]:
    """The base's own configuration as a dictionary."""
    config = getattr(model, "config", None)
    to_dict: Callable[[], dict[str, Any]] | None = getattr(config, "to_dict", None)
    if to_dict is not None:
        return to_dict()
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    return config if isinstance(config, dict) else {"model_type": "custom"}


# --- reading ----------------------------------------------------------------------------------------------------------


def read_adapter(source: Source, config: LoraConfig | None = None) -> Stored:
    """Read an adapter folder completely. Nothing but the files is touched."""
    config = config or read_config(source.where, subfolder=source.subfolder, options=source.options)
    tensors = _read_tensors(source)
    for pattern, replacement in (source.key_mapping or {}).items():
        tensors = _with_keys(tensors, partial(re.sub, pattern, replacement))
    tensors = _without_repeats(_with_keys(tensors, _prefixed))
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
    if (path := _locate(source, WEIGHTS)) is not None:
        return read_tensors_of_file(path)
    path = _locate(source, PICKLE, download=source.allow_pickle)
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


def _locate(source: Source, name: str, *, download: bool = True) -> Path | None:
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
        path = _locate(source, CONFIG)
        ours = _read_json(path).get(_OURS) if path else None
    except LumoraError:  # the caller gave a configuration in place of the file's
        return False
    return isinstance(ours, dict) and "attention" in ours


def _with_keys(tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
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


def _prefixed(key: str) -> str:
    return key if key.startswith(PREFIX) else PREFIX + key


# --- loading into a model ---------------------------------------------------------------------------------------------


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
    expected = dict(_expected(model, planned))
    given = _with_current_names(tensors, expected)
    _check(type(root_of(model)[0]).__name__, given, expected, ignore_mismatched_sizes, strict)


def check_same_arithmetic(here: LoraConfig, read: LoraConfig, name: str) -> None:
    """Raise if an adapter's tensors would mean something else under the configuration that it has in the model."""
    fields = ("r", "lora_alpha", "use_rslora", "use_dora", "lora_bias", "rank_pattern", "alpha_pattern")
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
    given = _with_current_names(_with_keys(tensors, _prefixed), expected)
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
            + _listed("in the file", sizes)
            + "  Is this the base it was trained on? A head for another number of labels?"
        )
    if kinds:
        raise AdapterFileError(
            "Tensors of the adapter hold another kind of number than the model's; nothing was loaded.\n"
            + _listed("in the file", kinds)
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
    return _with_keys(tensors, lambda key: renamed.current_name(key, expected))


# --- which tensors an adapter has -------------------------------------------------------------------------------------


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
    """The base's batch norms with running statistics, without those in modules that are trained whole."""
    return (norm for _, norm in _norms(root))


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


def _expected(model: nn.Module, planned: inject.Plan) -> Iterator[tuple[str, Tensor]]:
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


# --- writing ----------------------------------------------------------------------------------------------------------


def adapter_state_dict(
    model: nn.Module, name: str, state_dict: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """An adapter's tensors under their keys in the file; out of `state_dict` when given (gathered from shards, say)."""
    slots = dict(slots_of(model, name))
    if state_dict is None:
        return {key: slot.tensor.detach() for key, slot in slots.items()}
    return {key: slot.read(state_dict[slot.path]) for key, slot in slots.items() if slot.path in state_dict}


def save_adapter(
    model: nn.Module,
    name: str,
    folder: Path,
    *,
    initial: str | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> list[Path]:
    """Write one adapter of a `PeftModel`: into `folder` itself if it is called `default`, else into its sub-folder.

    Returns the files that now make up the adapter.
    """
    root, _ = root_of(model)
    config: LoraConfig = root.peft_config[name]  # type: ignore[index]
    home = folder if name == DEFAULT else folder / name
    tensors = adapter_state_dict(model, name, state_dict)
    if state_dict is not None and (lacking := [key for key, _ in slots_of(model, name) if key not in tensors]):
        raise AdapterFileError(f"The given state dict lacks {len(lacking)} tensors of adapter {name!r}: {lacking[:3]}.")
    if any(t.device.type == "meta" for t in tensors.values()):
        raise AdapterFileError(f"Adapter {name!r} has no values yet (low_cpu_mem_usage); load them before saving.")
    if initial is not None:
        tensors, config = _relative_to_start(tensors, config, Path(initial))
    if config.task_type is None:
        base_class = type(root)
        mapping = {"base_model_class": base_class.__name__, "parent_library": base_class.__module__}
        config = replace(config, auto_mapping=mapping)
    # A copy each: safetensors refuses tensors that share storage.
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    writers: dict[str, _Writer] = {
        WEIGHTS: lambda path: safetensors.torch.save_file(tensors, path, {"format": "pt"}),
        CONFIG: _text_writer(_config_text(config, _what_peft_cannot_say(root, name))),
    }
    if _may_write_card(home):
        writers[CARD] = _text_writer(_card_text(root, name))
    _write_together(home, writers)
    return [home / file for file in (WEIGHTS, CONFIG, CARD)]


def write_card(model: nn.Module, folder: Path, name: str | None = None) -> None:
    """Write `README.md` beside an adapter unless somebody wrote one; a card of ours is brought up to date."""
    root, _ = root_of(model)
    name = name or next(iter(root.peft_config))  # type: ignore[arg-type]
    if _may_write_card(folder):
        _write_together(folder, {CARD: _text_writer(_card_text(root, name))})


def _card_text(root: nn.Module, name: str) -> str:
    from lumora.lora.card import card

    return card(root, name, _what_peft_cannot_say(root, name))


def _may_write_card(folder: Path) -> bool:
    from lumora.lora.card import MARK

    try:
        return MARK.encode() in (folder / CARD).read_bytes()
    except FileNotFoundError:
        return True
    except OSError:  # whatever it is, it is not ours
        return False


def _what_peft_cannot_say(root: nn.Module, name: str) -> dict[str, Any]:
    """What a reader other than Lumora would get wrong, in words."""
    ours: dict[str, Any] = {}
    layers = [(p, m) for p, m in root.named_modules() if isinstance(m, LoraLayer) and name in m.adapters]
    if any(isinstance(m, MultiheadAttention) for _, m in layers):
        ours["attention"] = "the output projection's update counts once; PEFT up to 0.21 adds it twice"
    foreign = [
        p for p, m in layers if isinstance(m, ConvTranspose) or (isinstance(m, MultiheadAttention) and not m.whole)
    ]
    if foreign:
        ours["not_for_peft"] = f"PEFT cannot read the adapters of these layers: {', '.join(foreign)}"
    lent = [p for p, m in layers if isinstance(m, LentLinear)]
    if lent:
        ours["read_directly"] = f"PEFT's adapters do nothing where a weight is read without a call: {', '.join(lent)}"
    return ours


def _relative_to_start(
    tensors: dict[str, Tensor], config: LoraConfig, initial: Path
) -> tuple[dict[str, Tensor], LoraConfig]:
    """The change since the start, as an adapter of twice the rank: B A - B0 A0 = [B, -B0] [A; A0]."""
    start = read_adapter(Source(initial)).tensors
    if lacking := [key for key in tensors if key not in start]:
        raise AdapterFileError(f"{initial} is not this adapter's start: it lacks {lacking[:3]}.")
    wide: dict[str, Tensor] = {}
    for key, value in tensors.items():
        first = start[key].to(value)
        if ".lora_A." in key or key.endswith(".lora_embedding_A"):
            wide[key] = torch.cat([value, first], dim=0)
        elif ".lora_B.weight" in key or key.endswith(".lora_embedding_B"):
            wide[key] = torch.cat([value, -first], dim=1)
        else:
            wide[key] = value
    more = 2**0.5 if config.use_rslora else 2
    config = replace(
        config,
        r=2 * config.r,
        lora_alpha=more * config.lora_alpha,
        rank_pattern={k: 2 * r for k, r in config.rank_pattern.items()},
        alpha_pattern={k: more * a for k, a in config.alpha_pattern.items()},
        init_lora_weights=True,
    )
    return wide, config


_Writer = Callable[[Path], Any]


def _text_writer(text: str) -> _Writer:
    return lambda path: path.write_text(text, encoding="utf-8")


def _write_together(folder: Path, writers: Mapping[str, _Writer]) -> None:
    """Write every file beside its old one and, only when all are on the disk, put them in place.

    On any failure, or when the process is killed, the old files are as they were. Only the moment between the renames
    is left, in which being killed leaves some old and some new.
    """
    temporaries: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{name} is a folder")
            temporary = folder / f".{name}.{secrets.token_hex(4)}"
            temporaries[temporary] = folder / name
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(mode)  # safetensors makes files that only their owner may read
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        for temporary, path in temporaries.items():
            temporary.replace(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AdapterFileError(
            f"Nothing could be written to {folder}: {reason}. What was there is unchanged."
        ) from error
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
