"""KerasHub's SegFormer and transformers' SegFormer: which layer is which."""

from __future__ import annotations

import math
import warnings
from typing import Any

from torch import nn

from lumora.errors import LumoraError, LumoraWarning
from lumora.integrations.keras.layers import layers_of
from lumora.integrations.keras.library import Model, keras_hub

_IN_BLOCK = {
    "norm1": "layernorm_before",
    "attn.q": "attention.q_proj",
    "attn.k": "attention.k_proj",
    "attn.v": "attention.v_proj",
    "attn.proj": "attention.o_proj",
    "attn.sr": "attention.sequence_reduction.sequence_reduction",
    "attn.norm": "attention.sequence_reduction.layer_norm",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.dwconv": "mlp.dwconv.dwconv",
    "mlp.fc2": "mlp.fc2",
}
_IN_PATCHES = {"proj": "proj", "norm": "layer_norm"}
_TANH = "gelu_pytorch_tanh"
_SIDE = 512
_RATIO = 4
"""KerasHub's SegFormer has no other width of its perceptrons."""


def pairs(model: Model) -> dict[str, str]:
    """The path of each layer in Keras, and in torch."""
    encoder = model.backbone.image_encoder
    paths = {id(layer): path for path, layer in layers_of(model).items()}
    found: dict[str, str] = {}
    norms = [layer for layer in encoder.layers if type(layer).__name__ == "LayerNormalization"]
    for i, depth in enumerate(encoder.layerwise_depths):
        patches = paths[id(encoder.get_layer(f"patch_and_embed_{i}"))]
        found |= {f"{patches}.{a}": f"segformer.stages.{i}.patch_embeddings.{b}" for a, b in _IN_PATCHES.items()}
        for k in range(depth):
            block = paths[id(encoder.get_layer(f"hierarchical_encoder_{i}_{k}"))]
            found |= {f"{block}.{a}": f"segformer.stages.{i}.blocks.{k}.{b}" for a, b in _IN_BLOCK.items()}
        found[paths[id(norms[i])]] = f"segformer.stages.{i}.layer_norm"
        found[paths[id(model.backbone.mlp_blocks[i])]] = f"decode_head.linear_projections.{i}.proj"
    convolution, norm, _ = model.backbone.linear_fuse.layers
    found[paths[id(convolution)]] = "decode_head.linear_fuse"
    found[paths[id(norm)]] = "decode_head.batch_norm"
    found[paths[id(model.output_segmentation_head)]] = "decode_head.classifier"
    return found


def to_torch(model: Model) -> nn.Module:
    """A transformers model of the same sizes."""
    import transformers

    encoder = model.backbone.image_encoder
    config = transformers.SegformerConfig(
        num_encoder_blocks=encoder.num_layers,
        depths=list(encoder.layerwise_depths),
        sr_ratios=list(encoder.layerwise_sr_ratios),
        hidden_sizes=list(encoder.hidden_dims),
        patch_sizes=list(encoder.layerwise_patch_sizes),
        strides=list(encoder.layerwise_strides),
        num_attention_heads=list(encoder.layerwise_num_heads),
        mlp_ratios=[_RATIO] * encoder.num_layers,
        hidden_act=_TANH,
        decoder_hidden_size=model.backbone.projection_filters,
        num_channels=encoder.image_shape[-1],
    )
    config.num_labels = model.num_classes
    return transformers.SegformerForSemanticSegmentation(config)


def to_keras(model: nn.Module, side: int | None) -> Model:
    """A KerasHub model of the same sizes for square pictures.

    KerasHub computes GELU by its tanh approximation only; for a model with the exact one there is a warning.
    """
    config: Any = model.config
    problems: list[str] = []
    if any(ratio != _RATIO for ratio in config.mlp_ratios):
        problems.append(f"mlp_ratios is {config.mlp_ratios}; only {_RATIO} is known there")
    if config.hidden_act not in ("gelu", _TANH, "gelu_new"):
        problems.append(f"hidden_act is {config.hidden_act!r}; there it is GELU")
    if len(set(config.hidden_sizes)) != len(config.hidden_sizes):
        problems.append(f"hidden_sizes is {config.hidden_sizes}; there all stages differ")
    if problems:
        raise LumoraError(f"KerasHub has no SegFormer like this: {'; '.join(problems)}.")
    if config.hidden_act == "gelu":
        warnings.warn(
            "This SegFormer computes with the exact GELU and KerasHub's with its tanh approximation: outputs differ by "
            "up to about 1e-3 of the largest.",
            LumoraWarning,
            stacklevel=3,
        )
    return _built(config, _fitting(_SIDE if side is None else side, math.prod(config.strides)))


def _fitting(side: int, step: int) -> int:
    if side < 1 or side % step:
        raise LumoraError(
            f"side is {side}; KerasHub's SegFormer with these strides sees sides that are a multiple of {step}. "
            f"The next one is side={max(1, math.ceil(side / step)) * step}."
        )
    return side


def _built(config: Any, side: int) -> Model:
    models = keras_hub().models
    encoder = models.MiTBackbone(
        layerwise_depths=list(config.depths),
        num_layers=config.num_encoder_blocks,
        layerwise_num_heads=list(config.num_attention_heads),
        layerwise_sr_ratios=list(config.sr_ratios),
        max_drop_path_rate=config.drop_path_rate,
        layerwise_patch_sizes=list(config.patch_sizes),
        layerwise_strides=list(config.strides),
        image_shape=(side, side, config.num_channels),
        hidden_dims=list(config.hidden_sizes),
    )
    backbone = models.SegFormerBackbone(image_encoder=encoder, projection_filters=config.decoder_hidden_size)
    return models.SegFormerImageSegmenter(backbone=backbone, num_classes=config.num_labels)
