"""Keras itself, imported once and in an order that works: torch's compiler before TensorFlow.

Each brings an LLVM of its own, and a process that has loaded TensorFlow's ends without a word when triton's comes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from lumora.errors import LumoraError

# What comes from Keras has no types.
Layer = Any
Model = Any
Array = Any


def _imported(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LumoraError(
            f"{error.name} is not installed; Lumora's Keras part needs it: pip install 'lumora[{extra}]'"
        ) from error


def _load_triton() -> None:
    """Load torch's compiler, where there is one, before anything loads TensorFlow."""
    if importlib.util.find_spec("triton") is None or "triton" in sys.modules:
        return
    if "tensorflow" in sys.modules:
        raise LumoraError(
            "TensorFlow was imported before torch's compiler, and the process would end when that comes. Let the "
            "program begin with: import lumora.integrations.keras.library (or: import triton)"
        )
    importlib.import_module("triton")


_load_triton()
keras = _imported("keras", "keras")
ops = keras.ops


def check_channels_last() -> None:
    """Raise where Keras is set to have the channels of pictures first."""
    if keras.config.image_data_format() != "channels_last":
        raise LumoraError(
            "Keras is set to channels first; Lumora's part for it has channels last on every backend: "
            "keras.config.set_image_data_format('channels_last')"
        )


def tensorflow() -> Any:
    """TensorFlow, which `tf.data` needs whatever the backend is."""
    return _imported("tensorflow", "keras")


def keras_hub() -> Any:
    """KerasHub, imported when its models are asked for."""
    return _imported("keras_hub", "keras")
