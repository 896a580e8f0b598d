"""LoRA's own names."""

from __future__ import annotations

from lumora.lora.config import EvaConfig, LoraConfig
from lumora.lora.eva import get_eva_state_dict, initialize_lora_eva_weights
from lumora.lora.layers import Embedding, Linear, LoraLayer
from lumora.lora.tuner import LoraModel

__all__ = [
    "Embedding",
    "EvaConfig",
    "Linear",
    "LoraConfig",
    "LoraLayer",
    "LoraModel",
    "get_eva_state_dict",
    "initialize_lora_eva_weights",
]
