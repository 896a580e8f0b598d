"""What is known of a base without its weights: preprocessing, licence, source."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from lumora.errors import HubError, LumoraWarning
from lumora.models import checkpoints, embedded, libraries, places, preprocessing
from lumora.models.names import parse
from lumora.models.preprocessing import Preprocessing
from lumora.paths import at_home

PROCESSOR = "preprocessor_config.json"
CARD = "README.md"


@dataclass(frozen=True)
class Facts:
    """What a library, or a checkpoint's own files, say of a base."""

    preprocessing: Preprocessing
    licence: str | None = None
    source: str | None = None
    """Where the weights come from: an address or a folder."""


def facts(name: str) -> Facts:
    """What is known of the base of a name. Small files may be fetched from the Hub, weights are not.

    >>> facts("lumora/efficientnet-lite0").licence
    'apache-2.0'
    """
    parsed = parse(name)
    if parsed.library == "transformers":
        return _of_checkpoint(name)
    if parsed.library == "timm":
        return _of_timm(parsed.rest)
    if parsed.library == "lumora":
        known = _of_timm(embedded.timm_name(parsed.rest))
        return replace(known, licence=embedded.LICENCE, source=embedded.SOURCE)
    if parsed.library == "torchvision":
        return _of_torchvision(parsed.rest)
    if parsed.library == "smp":
        return _of_smp(parsed.rest)
    return Facts(Preprocessing())


def of_module(model: nn.Module) -> Facts:
    """What a ready model carries with it: timm's `pretrained_cfg`, a transformers configuration."""
    found: Any = getattr(model, "pretrained_cfg", None)
    if found:
        return _of_timm_values(found if isinstance(found, dict) else found.to_dict())
    config: Any = getattr(model, "config", None)
    if config is not None and hasattr(config, "model_type"):
        return Facts(_usual_of(config))
    return Facts(Preprocessing())


def _of_checkpoint(name: str) -> Facts:
    origin, here = PROCESSOR, at_home(name).is_dir()
    path = reached = None
    try:
        path = places.extra(name, PROCESSOR)
        reached = True
    except HubError as error:
        _warn_usual(repr(name), error)
    licence = _licence(name) if reached else None
    if path is not None:
        prepared = preprocessing.from_transformers(_json(path), origin)
    else:
        config = checkpoints.read_config(name)
        prepared = _usual_of(config)
        licence = licence or (getattr(config, "pretrained_cfg", None) or {}).get("license")
    source = str(at_home(name).resolve()) if here else f"https://huggingface.co/{name}"
    return Facts(prepared, licence, source)


def _usual_of(config: Any) -> Preprocessing:
    """What the processor of an architecture does when nothing is said."""
    if values := getattr(config, "pretrained_cfg", None):  # a model of timm in a checkpoint of transformers
        return preprocessing.from_timm(values)
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    kinds: Any = IMAGE_PROCESSOR_MAPPING.get(type(config), None)
    kind = next((k for k in (kinds.values() if isinstance(kinds, dict) else kinds or ()) if k is not None), None)
    prepared = Preprocessing()
    if kind is not None:
        origin = f"the usual values of {config.model_type}; the checkpoint brings none"
        prepared = preprocessing.from_transformers(json.loads(kind().to_json_string()), origin)
    side: Any = getattr(getattr(config, "vision_config", config), "image_size", None)
    if isinstance(side, int) and prepared.usual_size != (side, side):
        prepared = prepared.with_size((side, side))
    return prepared


def _licence(name: str) -> str | None:
    """What the model's card says, when there is one."""
    import huggingface_hub

    try:
        path = places.extra(name, CARD)
        found: Any = huggingface_hub.metadata_load(path) if path else None
    except (HubError, ValueError):
        return None
    licence = (found or {}).get("license")
    return licence if isinstance(licence, str) else None


def _of_timm(name: str) -> Facts:
    import timm

    found: Any = timm.get_pretrained_cfg(name)
    return _of_timm_values(found.to_dict()) if found is not None else Facts(Preprocessing())


def _of_timm_values(values: dict[str, Any]) -> Facts:
    repository, address = values.get("hf_hub_id"), values.get("url") or values.get("origin_url")
    source = f"https://huggingface.co/{repository}" if repository else address
    return Facts(preprocessing.from_timm(values), values.get("license"), source or None)


def _of_torchvision(name: str) -> Facts:
    from torchvision import models

    libraries.check_torchvision(name)
    weights: Any = models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    licence = weights.meta.get("license")
    return Facts(preprocessing.from_torchvision(weights.transforms()), licence, weights.url)


def _of_smp(name: str) -> Facts:
    _, options = libraries.smp_options(name)
    usual = replace(Preprocessing(), resize=None)
    try:
        path = libraries.smp_file(options, places.MODEL_CONFIG)
    except HubError as error:
        _warn_usual(f"the encoder {options['encoder']!r}", error)
        return Facts(usual)
    if path is None:
        return Facts(usual)
    values = _json(path)
    return Facts(preprocessing.from_smp(values))


def _warn_usual(what: str, error: Exception) -> None:
    warnings.warn(
        f"The preprocessing of {what} could not be seen ({error}); the usual one of its architecture is taken.",
        LumoraWarning,
        stacklevel=3,
    )


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
