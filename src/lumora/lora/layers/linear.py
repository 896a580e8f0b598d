"""Adapters for `nn.Linear` and for transformers' `Conv1D`, a linear layer whose weight lies the other way round."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lumora.lora.layers.base import LoraLayer, Site
from lumora.lora.product import Maps, Matrix

MAPS = Maps(base=Matrix(), down=Matrix(), up=Matrix())


class Linear(LoraLayer):
    """A linear layer with adapters. Factors: A (r, in), B (out, r)."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Inputs and outputs of the layer."""
        weight: Tensor = self.base_layer.weight  # type: ignore[assignment]
        return weight.shape[1], weight.shape[0]

    def new_factors(self, r: int, bias: bool) -> tuple[nn.Module, nn.Module]:
        n_in, n_out = self.sizes
        return nn.Linear(n_in, r, bias=False), nn.Linear(r, n_out, bias=bias)

    def maps(self, site: Site) -> Maps | None:
        return MAPS

    def down(self, x: Tensor, a: Tensor, site: Site) -> Tensor:
        return F.linear(x, a)

    def up(self, h: Tensor, b: Tensor, bias: Tensor | None, site: Site) -> Tensor:
        return F.linear(h, b, bias)


class Conv1D(Linear):
    """transformers' `Conv1D`: the weight is (in, out). The factors are a linear layer's."""

    def _get_name(self) -> str:
        return "lora.Linear"

    @property
    def sizes(self) -> tuple[int, int]:
        n_out, n_in = super().sizes
        return n_in, n_out

    @property
    def in_features(self) -> int:
        """Inputs of the layer."""
        return self.sizes[0]

    @property
    def out_features(self) -> int:
        """Outputs of the layer."""
        return self.sizes[1]

    def adapted(self, x: Tensor) -> Tensor:  # type: ignore[override] - transformers calls it x
        return self.product(x, self.sites[0])

    def map_weight(self, site: Site) -> Tensor:
        return self.as_matrix(super().map_weight(site))

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.t()

    def from_matrix(self, matrix: Tensor, weight: Tensor) -> Tensor:
        return matrix.t()
