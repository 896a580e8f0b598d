"""The kinds of layers that can be adapted.

A new kind is a new file with a subclass of `LoraLayer`, and one line in `KINDS`.
"""

from __future__ import annotations

from torch import nn

from lumora.lora.layers.attention import MultiheadAttention
from lumora.lora.layers.base import LoraLayer, Site
from lumora.lora.layers.conv import Conv, ConvTranspose
from lumora.lora.layers.embedding import Embedding
from lumora.lora.layers.holder import BaseTunerLayer
from lumora.lora.layers.lent import LentLinear, is_lent
from lumora.lora.layers.linear import Conv1D, Linear

KINDS: dict[str, type[LoraLayer]] = {
    "torch.nn.modules.linear.Linear": Linear,
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": Linear,
    "torch.nn.modules.conv.Conv1d": Conv,
    "torch.nn.modules.conv.Conv2d": Conv,
    "torch.nn.modules.conv.Conv3d": Conv,
    "torch.nn.modules.conv.ConvTranspose1d": ConvTranspose,
    "torch.nn.modules.conv.ConvTranspose2d": ConvTranspose,
    "torch.nn.modules.conv.ConvTranspose3d": ConvTranspose,
    "torch.nn.modules.sparse.Embedding": Embedding,
    "torch.nn.modules.activation.MultiheadAttention": MultiheadAttention,
    "transformers.pytorch_utils.Conv1D": Conv1D,
}
"""Exact types, by name, so that no library has to be imported to recognise its layers."""


def kind_of(module: nn.Module) -> type[LoraLayer] | None:
    """The kind that adapts a module, or None: the exact type, or a subclass that computes what its parent computes.

    >>> kind_of(nn.Linear(2, 2)).__name__
    'Linear'
    >>> kind_of(nn.ReLU()) is None
    True
    """
    for cls in type(module).__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name in KINDS:
            return KINDS[name]
        if "forward" in vars(cls) or "_conv_forward" in vars(cls):
            return None
    return None


def why_not(module: nn.Module) -> str:
    """Say why a module has no kind, and what to do."""
    name = type(module).__name__
    parents = [c for c in type(module).__mro__ if f"{c.__module__}.{c.__qualname__}" in KINDS]
    if parents:
        return (
            f"{name} is a {parents[0].__name__} that changes forward, so an adapter would compute something else; "
            f"exclude it, or adapt a plain {parents[0].__name__}"
        )
    if any(kind_of(child) for child in module.modules() if child is not module):
        inside = next(n for n, child in module.named_modules() if child is not module and kind_of(child))
        return f"{name} is a container; name the layers inside it, for example '{inside}'"
    return f"{name} has no weight matrix that Lumora can adapt"


__all__ = [
    "KINDS",
    "BaseTunerLayer",
    "Conv",
    "Conv1D",
    "ConvTranspose",
    "Embedding",
    "LentLinear",
    "Linear",
    "LoraLayer",
    "MultiheadAttention",
    "Site",
    "is_lent",
    "kind_of",
    "why_not",
]
