"""What `isinstance` checks need to recognise adapted models and layers."""

from __future__ import annotations

from lumora.lora.layers import BaseTunerLayer
from lumora.lora.tuner import BaseTuner

__all__ = ["BaseTuner", "BaseTunerLayer"]
