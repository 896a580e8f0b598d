"""`adapter_config.json`: reading it warily, writing it as PEFT does."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lumora.errors import AdapterFileError, ConfigError
from lumora.lora.config import LoraConfig, PeftConfig
from lumora.lora.files.disk import text_writer, write_together
from lumora.lora.files.names import CONFIG, FORMAT_VERSION, OURS

_MOST_JSON = 16 * 2**20


def parse_config(path: Path) -> LoraConfig:
    """Read a configuration file, refusing by name what it asks for that Lumora does not do."""
    values = read_json(path)
    if "peft_type" not in values:
        raise AdapterFileError(f"{path} holds no adapter configuration: it must be an object with a 'peft_type'.")
    ours = values.pop(OURS, None)
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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that says of which type the adapter is."""
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
    write_together(Path(folder), {CONFIG: text_writer(config_text(config, {}))})


def config_text(config: PeftConfig, ours: Mapping[str, Any]) -> str:
    """The text of the file: PEFT's fields, sorted, and what is ours alone."""
    values = {**config.unsupported_defaults, **config.to_dict(), "inference_mode": True}
    values["peft_version"] = FORMAT_VERSION
    batch_norm = values.pop("batch_norm", "frozen")
    extra = dict(ours)
    if batch_norm != "frozen":
        extra["batch_norm"] = batch_norm
    if extra:
        values[OURS] = extra
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
