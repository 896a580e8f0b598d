"""Adapters for `nn.Embedding`: low-rank changes of its rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.lora.layers.base import LoraLayer, Site
from lumora.lora.product import Maps


class Embedding(LoraLayer):
    """An embedding with adapters. Factors: A (r, number of rows), B (row length, r)."""

    drops_input = False

    @classmethod
    def unsuitable(cls, base_layer: nn.Module) -> str | None:
        if getattr(base_layer, "max_norm", None) is not None:
            return "it has max_norm, which rewrites its weight in every forward pass; set max_norm=None"
        return None

    @property
    def in_features(self) -> int:
        """How many rows there are."""
        return self.base_layer.weight.shape[0]  # type: ignore[union-attr,return-value]

    @property
    def out_features(self) -> int:
        """How long a row is."""
        return self.base_layer.weight.shape[1]  # type: ignore[union-attr,return-value]

    def new_factors(self, r: int, bias: bool) -> tuple[nn.Parameter, nn.Parameter]:
        return nn.Parameter(torch.randn(r, self.in_features)), nn.Parameter(torch.randn(self.out_features, r))

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        return self.lora_embedding_A[name], self.lora_embedding_B[name]

    def maps(self, site: Site) -> Maps | None:
        return None

    def down(self, x: Tensor, a: Tensor, site: Site) -> Tensor:
        base: nn.Embedding = self.base_layer  # type: ignore[assignment]
        # Never with sparse gradients: the factor is small, and few optimizers take them.
        return F.embedding(x, a.t(), base.padding_idx, None, 2.0, base.scale_grad_by_freq)

    def up(self, h: Tensor, b: Tensor, bias: Tensor | None, site: Site) -> Tensor:
        return F.linear(h, b)

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.t()

    def from_matrix(self, matrix: Tensor, weight: Tensor) -> Tensor:
        return matrix.t()
