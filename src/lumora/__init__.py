"""Adapt pretrained vision models to your own pictures with LoRA.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumora.errors import LumoraError as LumoraError
    from lumora.lora import EvaConfig as EvaConfig
    from lumora.lora import LoraConfig as LoraConfig
    from lumora.lora import PeftConfig as PeftConfig
    from lumora.lora import PeftModel as PeftModel
    from lumora.lora import TaskType as TaskType
    from lumora.lora import get_peft_model as get_peft_model
    from lumora.predict import Predictor as Predictor
    from lumora.predict import load as load
    from lumora.training import Run as Run
    from lumora.training import finetune as finetune

__version__ = "0.1.0"

_HOMES = {
    "LumoraError": "lumora.errors",
    "EvaConfig": "lumora.lora",
    "LoraConfig": "lumora.lora",
    "PeftConfig": "lumora.lora",
    "PeftModel": "lumora.lora",
    "TaskType": "lumora.lora",
    "get_peft_model": "lumora.lora",
    "Predictor": "lumora.predict",
    "load": "lumora.predict",
    "Run": "lumora.training",
    "finetune": "lumora.training",
}

__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lumora' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
