"""Optimizers made for adapters."""

from __future__ import annotations

from lumora.lora.optimizers import create_lorafa_optimizer, create_loraplus_optimizer

__all__ = ["create_lorafa_optimizer", "create_loraplus_optimizer"]
