"""What the Hub has under the names that public guides use: the same architectures in the same files.

The transformers are tiny. The PoolFormer is as large as its name says, since timm builds it by its name alone; its
weights are random.
"""

from __future__ import annotations

import json
from pathlib import Path

import timm
import timm.models
import torch
import transformers
from tests.tiny_models import SEGFORMER, VIT

VIT_IN21K = "google/vit-base-patch16-224-in21k"
MIT_B0 = "nvidia/mit-b0"
POOLFORMER = "timm/poolformer_m36.sail_in1k"

_OLD_PROCESSOR = {"do_normalize": True, "do_resize": True, "resample": 2}
"""How processors were written when these checkpoints were: the size is one number."""


def save_vit(folder: Path) -> Path:
    """A bare ViT with a pooler, without a classifier: as it was after ImageNet-21k."""
    transformers.set_seed(0)
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(folder)
    _write(folder, {**_OLD_PROCESSOR, "size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    return folder


def save_mit(folder: Path) -> Path:
    """SegFormer's encoder with a classifier of ImageNet's classes, as it was pretrained, in torch's own file alone."""
    transformers.set_seed(0)
    config = transformers.SegformerConfig(**SEGFORMER, num_labels=10)
    model = transformers.SegformerForImageClassification(config)
    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    _write(
        folder,
        {
            **_OLD_PROCESSOR,
            "size": 64,
            "feature_extractor_type": "SegformerFeatureExtractor",
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "reduce_labels": False,
        },
    )
    return folder


def save_poolformer(folder: Path) -> Path:
    """PoolFormer-M36 with 1,000 classes, in the files that timm keeps on the Hub."""
    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model("poolformer_m36"), folder, safe_serialization=True)
    return folder


def _write(folder: Path, processor: dict[str, object]) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
