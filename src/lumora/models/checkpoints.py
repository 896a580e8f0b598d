"""Checkpoints of transformers: configuration and weights, read without running anything that lies beside them.

Given a folder, transformers obeys what it finds there: an adapter, or a pickle or kernels on the Hub that the
configuration names. So it is given the configuration and the tensors themselves, and no folder.
"""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lumora.errors import LumoraError, LumoraWarning
from lumora.lora.names import is_inside_any
from lumora.models import places


def read_config(name: str) -> Any:
    """The configuration of a checkpoint, as transformers has it. Code that the checkpoint brings is not run."""
    import transformers

    folder = places.find(name, places.MODEL_CONFIG).parent
    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever transformers does with a file that anybody may have written
        if _brings_code(name):
            raise LumoraError(
                f"{name!r} is built by code of its own (auto_map in its {places.MODEL_CONFIG}), which Lumora does not "
                "run. If you have read and trust it, build the model yourself and give it ready: "
                "load_base(transformers.AutoModel.from_pretrained(..., trust_remote_code=True))"
            ) from error
        raise _not_built(name, error) from error
    # Both may name kernels on the Hub, which are code.
    config._attn_implementation = config._experts_implementation = None
    return config


def is_timms(config: Any) -> bool:
    """Whether a checkpoint is of one of timm's models, which transformers would wrap."""
    return config.model_type == "timm_wrapper"


def architecture(config: Any) -> Any:
    """The class that a checkpoint was saved from, or the bare model of its architecture."""
    import transformers

    for name in config.architectures or ():
        cls = getattr(transformers, name, None)
        # The name comes from a file that anybody may have written.
        if isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel):
            return cls
    return transformers.MODEL_MAPPING[type(config)]


def tensors(name: str) -> dict[str, Tensor]:
    """The weights of a checkpoint."""
    stored: dict[str, Tensor] = {}
    for path in places.weights(name):
        stored |= _read(path)
    return stored


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == places.SAFE:
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LumoraError(
            f"{path} is no file of tensors alone, and anything else could run any code; it was not opened. If you "
            "trust it, write it anew by a program of your own: AutoModel.from_pretrained(...).save_pretrained('folder')"
        ) from error
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise LumoraError(f"{path} is damaged ({error}). Copy or download it again.") from error


def load(cls: Any, name: str, config: Any, **options: Any) -> tuple[nn.Module, set[str]]:
    """The model of a checkpoint, and the names of what the checkpoint does not have, or has in another shape."""
    stored = tensors(name)
    with building(name), _quiet():
        model, report = cls.from_pretrained(
            None,
            config=config,
            state_dict=stored,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    model.name_or_path = model.config.name_or_path = name
    mismatched = {item[0] if isinstance(item, tuple | list) else item for item in report["mismatched_keys"]}
    return model, set(report["missing_keys"]) | mismatched


def warn_of_missing(name: str, missing: Collection[str], heads: Collection[str] = ()) -> None:
    """Warn of weights outside the head that the checkpoint does not have."""
    absent = sorted(key for key in missing if not is_inside_any(key, heads))
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        warnings.warn(
            f"{name!r} has no weights, or some of another shape, for {shown}; they start at random.",
            LumoraWarning,
            stacklevel=2,
        )


@contextmanager
def building(name: str) -> Generator[None]:
    """Inside, what transformers cannot build is said to be so."""
    try:
        yield
    except (KeyError, ValueError, OSError, ImportError) as error:
        if isinstance(error, LumoraError):
            raise
        raise _not_built(name, error) from error


def _not_built(name: str, error: Exception) -> LumoraError:
    import transformers

    return LumoraError(f"{name!r} is no model that transformers {transformers.__version__} can build: {error}")


def _brings_code(name: str) -> bool:
    try:
        return "auto_map" in json.loads(places.find(name, places.MODEL_CONFIG).read_text(encoding="utf-8"))
    except (ValueError, TypeError):
        return False


@contextmanager
def _quiet() -> Generator[None]:
    """Without transformers' report that the head is new: it is meant to be."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
