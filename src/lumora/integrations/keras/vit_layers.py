"""KerasHub's ViT and transformers' ViT: which layer is which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from lumora.errors import LumoraError
from lumora.integrations.keras.library import Model, keras_hub

_IN_BLOCK = {
    "ln_1": "layernorm_before",
    "mha.query": "attention.q_proj",
    "mha.key": "attention.k_proj",
    "mha.value": "attention.v_proj",
    "mha.attention_output": "attention.o_proj",
    "ln_2": "layernorm_after",
    "mlp.dense_1": "mlp.fc1",
    "mlp.dense_2": "mlp.fc2",
}


def pairs(model: Model) -> dict[str, str]:
    """The path of each layer in Keras, and in torch."""
    patches, encoder = "backbone.vit_patching_and_embedding", "backbone.vit_encoder"
    blocks = {
        f"{encoder}.transformer_block_{i + 1}.{here}": f"vit.layers.{i}.{there}"
        for i in range(model.backbone.num_layers)
        for here, there in _IN_BLOCK.items()
    }
    return {
        patches: "vit.embeddings",
        f"{patches}.patch_embedding": "vit.embeddings.patch_embeddings.projection",
        f"{patches}.position_embedding": "vit.embeddings",
        **blocks,
        f"{encoder}.ln": "vit.layernorm",
        "predictions": "classifier",
    }


def to_torch(model: Model) -> nn.Module:
    """A transformers model of the same sizes."""
    import transformers

    sizes = model.backbone
    side, patch = sizes.image_shape[0], _one(sizes.patch_size)
    problems: list[str] = []
    if model.pooling != "token" or model.intermediate_dim is not None:
        problems.append("its head is not one dense layer on the class token")
    if not (sizes.use_mha_bias and sizes.use_mlp_bias and sizes.use_class_token and sizes.use_patch_bias):
        problems.append("it lacks biases or the class token")
    if sizes.image_shape[0] != sizes.image_shape[1]:
        problems.append("its pictures are not square")
    if problems:
        raise LumoraError(f"{model.name} has no counterpart in transformers: {'; '.join(problems)}.")
    config = transformers.ViTConfig(
        hidden_size=sizes.hidden_dim,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        intermediate_size=sizes.mlp_dim,
        hidden_dropout_prob=sizes.dropout_rate,
        attention_probs_dropout_prob=sizes.attention_dropout,
        layer_norm_eps=sizes.layer_norm_epsilon,
        image_size=side,
        patch_size=patch,
        num_channels=sizes.image_shape[2],
    )
    config.num_labels = model.num_classes
    return transformers.ViTForImageClassification(config)


def to_keras(model: nn.Module, side: int | None) -> Model:
    """A KerasHub model of the same sizes."""
    config: Any = model.config
    own = _side_of(config.image_size)
    if side not in (None, own):
        raise LumoraError(f"This ViT sees pictures of {own} x {own}, not of {side}; leave out side, or give {own}.")
    if config.hidden_act != "gelu" or not config.qkv_bias:
        raise LumoraError(
            f"KerasHub's ViT has GELU and biases; this one has hidden_act={config.hidden_act!r} and "
            f"qkv_bias={config.qkv_bias}."
        )
    models = keras_hub().models
    backbone = models.ViTBackbone(
        image_shape=(own, own, config.num_channels),
        patch_size=config.patch_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_dim=config.hidden_size,
        mlp_dim=config.intermediate_size,
        dropout_rate=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        layer_norm_epsilon=config.layer_norm_eps,
    )
    return models.ViTImageClassifier(backbone, num_classes=config.num_labels)


def _side_of(size: int | Sequence[int]) -> int:
    """The side of the pictures, which transformers also takes as height and width."""
    if not isinstance(size, int) and len(set(size)) != 1:
        raise LumoraError(f"KerasHub's ViT sees square pictures; this one has image_size={size}. Give it equal sides.")
    return _one(size)


def _one(size: Any) -> int:
    return size if isinstance(size, int) else size[0]
