"""The LoRA engine: adapters for any `torch.nn.Module`, in PEFT's files. Needs torch and safetensors only."""

from __future__ import annotations

from lumora.lora.config import EvaConfig, LoraConfig, PeftConfig, PeftType, TaskType
from lumora.lora.model import LoraModel, PeftModel, get_peft_model
from lumora.lora.targets import default_targets

__all__ = [
    "EvaConfig",
    "LoraConfig",
    "LoraModel",
    "PeftConfig",
    "PeftModel",
    "PeftType",
    "TaskType",
    "default_targets",
    "get_peft_model",
]
