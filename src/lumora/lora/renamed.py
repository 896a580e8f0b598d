"""Layers that transformers 5 renamed: adapters trained before that still find them."""

from __future__ import annotations

import re
from collections.abc import Container

# (pattern, replacement), applied in order; the result counts only if the model has a layer of that name.
_CHANGES = (
    (r"segformer\.encoder\.block\.(\d+)\.(\d+)\.", r"segformer.stages.\1.blocks.\2."),
    (r"segformer\.encoder\.patch_embeddings\.(\d+)\.", r"segformer.stages.\1.patch_embeddings."),
    (r"segformer\.encoder\.layer_norm\.(\d+)\.", r"segformer.stages.\1.layer_norm."),
    (r"decode_head\.linear_c\.(\d+)\.", r"decode_head.linear_projections.\1."),
    (r"\.encoder\.layer\.(\d+)\.", r".layers.\1."),
    (r"\.attention\.(?:attention|self)\.query\.", ".attention.q_proj."),
    (r"\.attention\.(?:attention|self)\.key\.", ".attention.k_proj."),
    (r"\.attention\.(?:attention|self)\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.mlp\.dense1\.", ".mlp.fc1."),
    (r"\.mlp\.dense2\.", ".mlp.fc2."),
)


def current_name(key: str, existing: Container[str]) -> str:
    """The name that a tensor's key has in a model today, or the key itself if the model has it or has neither.

    >>> now = {"vit.layers.0.attention.q_proj.lora_A.weight"}
    >>> current_name("vit.encoder.layer.0.attention.attention.query.lora_A.weight", now)
    'vit.layers.0.attention.q_proj.lora_A.weight'
    """
    if key in existing:
        return key
    name = key
    for pattern, replacement in _CHANGES:
        name = re.sub(pattern, replacement, name)
        if name in existing:
            return name
    return key
