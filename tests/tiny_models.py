"""The smallest transformers models that still have every part, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}
"""Sizes of a ViT, under names that many architectures share."""
STAGES: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
"""Sizes of a model with four stages."""
SEGFORMER: dict[str, Any] = {
    **STAGES,
    "num_attention_heads": [1, 1, 2, 2],
    "sr_ratios": [4, 2, 1, 1],
    "decoder_hidden_size": 16,
}


def save_vit(folder: Path, seed: int) -> Path:
    """A checkpoint of a ViT with five classes, and its processor."""
    transformers.set_seed(seed)
    config = transformers.ViTConfig(**VIT, num_labels=5)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_segformer(folder: Path, seed: int, side: int) -> Path:
    """A checkpoint of a SegFormer with five classes, and its processor for pictures of a size."""
    transformers.set_seed(seed)
    config = transformers.SegformerConfig(**SEGFORMER, num_labels=5)
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    transformers.SegformerImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder
