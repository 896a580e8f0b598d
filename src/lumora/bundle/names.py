"""The names of a bundle's files."""

from __future__ import annotations

from lumora.lora import files

ABOUT = "lumora.json"
PROCESSOR = "preprocessor_config.json"
PROOF = "proof.safetensors"
CARD = files.CARD
THUMBNAIL = "thumbnail.jpg"
MANIFEST = "manifest.json"
ADAPTER_CONFIG = files.CONFIG
ADAPTER = files.WEIGHTS
WEIGHTS = "weights.safetensors"
"""What was trained, where that is no adapter."""

FOR_PEOPLE = (CARD, THUMBNAIL)
"""What may be edited, or left out, without changing what the model gives."""
