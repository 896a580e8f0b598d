"""The names of an adapter's files, and of what is in them."""

from __future__ import annotations

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
CARD = "README.md"
PREFIX = "base_model.model."
"""Every key of the weights starts with it."""
DEFAULT = "default"
"""The adapter of this name lies in the folder itself, others in sub-folders."""
FORMAT_VERSION = "0.21.2"
"""The version of PEFT whose files these are."""
OURS = "lumora"
"""The one key of ours in the JSON, there only if there is something that PEFT cannot say."""
