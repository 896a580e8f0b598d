"""The kinds of adapters: LoRA."""

from __future__ import annotations

from lumora.peft.tuners.lora import LoraConfig, LoraModel

__all__ = ["LoraConfig", "LoraModel"]
