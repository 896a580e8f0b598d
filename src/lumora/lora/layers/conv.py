"""Adapters for convolutions of one, two and three dimensions, transposed or not.

The first factor is a convolution of the base's own geometry into r channels, not grouped; the second mixes those
channels pixel by pixel, in the base's groups.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.lora.layers.base import LoraLayer, Site
from lumora.lora.product import Convolution, Maps, Pointwise

_PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_FUNCTION = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED_FUNCTION = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_POINTWISE = Maps(base=Pointwise(), down=Pointwise(), up=Pointwise())


class _Convolution(LoraLayer):
    """What plain and transposed convolutions share."""

    base_layer: Any

    @property
    def dimensions(self) -> int:
        """How many spatial dimensions there are."""
        return self.base_layer.weight.dim() - 2

    @classmethod
    def rank_problem(cls, base_layer: nn.Module, r: int) -> str | None:
        groups: int = base_layer.groups  # type: ignore[assignment]
        if r % groups == 0:
            return None
        return (
            f"rank {r} does not divide into its {groups} groups; use a multiple of {groups} "
            "(rank_pattern sets one module's rank)"
        )

    def adapted(self, input: Tensor, site: Site = LoraLayer.sites[0]) -> Tensor:
        if input.dim() == self.dimensions + 1:  # one sample without a batch dimension
            return self.product(input[None], site)[0]
        return self.product(input, site)

    def up(self, h: Tensor, b: Tensor, bias: Tensor | None, site: Site) -> Tensor:
        return _FUNCTION[self.dimensions](h, b, bias, groups=self.base_layer.groups)

    def per_output(self, vector: Tensor) -> Tensor:
        return vector.view(1, -1, *[1] * self.dimensions)

    def out_first(self, weight: Tensor) -> Tensor:
        """A weight that is not grouped as (outputs, inputs, *kernel)."""
        return weight

    def as_matrix(self, weight: Tensor) -> Tensor:
        return _block_diagonal([self.out_first(part).flatten(1) for part in weight.chunk(self.base_layer.groups)])

    def from_matrix(self, matrix: Tensor, weight: Tensor) -> Tensor:
        return self.out_first(matrix.view(self.out_first(weight).shape))

    def factor_matrices(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.out_first(a).flatten(1), _block_diagonal(list(b.flatten(1).chunk(self.base_layer.groups)))

    def first_factor_view(self, a: Tensor) -> Tensor:
        return self.out_first(a)

    def merge_problem(self) -> str | None:
        groups = self.base_layer.groups
        if groups == 1:
            return None
        return (
            f"this convolution has {groups} groups, and an adapter in PEFT's layout mixes channels across them, so the "
            "update has no place in the grouped weight; use the adapter unmerged, or exclude such layers"
        )

    def _pixelwise(self) -> Convolution:
        ones, zeros = (1,) * self.dimensions, (0,) * self.dimensions
        return Convolution(ones, zeros, ones, self.base_layer.groups)


class Conv(_Convolution):
    """A convolution with adapters. Factors: A (r, in, *kernel), B (out, r / groups, 1, ...)."""

    def new_factors(self, r: int, bias: bool) -> tuple[nn.Module, nn.Module]:
        base, kind = self.base_layer, _PLAIN[self.dimensions]
        down = kind(
            base.in_channels,
            r,
            base.kernel_size,
            base.stride,
            base.padding,
            base.dilation,
            bias=False,
            padding_mode=base.padding_mode,
        )
        return down, kind(r, base.out_channels, 1, groups=base.groups, bias=bias)

    def maps(self, site: Site) -> Maps | None:
        base = self.base_layer
        if base.padding_mode != "zeros" or isinstance(base.padding, str):
            return None
        if self._is_pointwise():
            return _POINTWISE
        geometry = Convolution(base.stride, base.padding, base.dilation, base.groups)
        return Maps(geometry, geometry._replace(groups=1), self._pixelwise(), composes=base.groups == 1)

    def down(self, x: Tensor, a: Tensor, site: Site) -> Tensor:
        base, padding = self.base_layer, self.base_layer.padding
        if base.padding_mode != "zeros":
            x, padding = F.pad(x, base._reversed_padding_repeated_twice, base.padding_mode), 0
        return _FUNCTION[self.dimensions](x, a, None, base.stride, padding, base.dilation)

    def _is_pointwise(self) -> bool:
        base = self.base_layer
        return {*base.kernel_size, *base.stride, *base.dilation, base.groups} == {1} and not any(base.padding)

    def _get_name(self) -> str:
        return f"lora.Conv{self.dimensions}d"


class ConvTranspose(_Convolution):
    """A transposed convolution with adapters. Factors: A (in, r, *kernel), B (out, r / groups, 1, ...).

    PEFT has no adapters for this layer, so it cannot read these.
    """

    def adapted(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # type: ignore[override]
        # The whole size may be given, with or without a batch; the last dimensions are what counts.
        size = None if output_size is None else tuple(output_size[-self.dimensions :])
        return super().adapted(input, Site(output_size=size))

    def base_product(self, x: Tensor, site: Site) -> Tensor:
        return self.base_layer(x, site.output_size)

    def base_product_unhooked(self, x: Tensor, site: Site) -> Tensor:
        return self.base_layer.forward(x, site.output_size)

    def new_factors(self, r: int, bias: bool) -> tuple[nn.Module, nn.Module]:
        base = self.base_layer
        down = _TRANSPOSED[self.dimensions](
            base.in_channels,
            r,
            base.kernel_size,
            base.stride,
            base.padding,
            base.output_padding,
            dilation=base.dilation,
            bias=False,
        )
        return down, _PLAIN[self.dimensions](r, base.out_channels, 1, groups=base.groups, bias=bias)

    def peft_reads(self) -> bool:
        return False

    def maps(self, site: Site) -> Maps | None:
        if site.output_size is not None:
            return None
        base = self.base_layer
        geometry = Convolution(base.stride, base.padding, base.dilation, base.groups, True, base.output_padding)
        return Maps(geometry, geometry._replace(groups=1), self._pixelwise(), composes=False)

    def down(self, x: Tensor, a: Tensor, site: Site) -> Tensor:
        base, n = self.base_layer, self.dimensions
        size = None if site.output_size is None else list(site.output_size)
        padding = base._output_padding(x, size, base.stride, base.padding, base.kernel_size, n, base.dilation)
        function = _TRANSPOSED_FUNCTION[n]
        return function(x, a, None, base.stride, base.padding, padding, dilation=base.dilation)

    def out_first(self, weight: Tensor) -> Tensor:
        return weight.transpose(0, 1)

    def _get_name(self) -> str:
        return f"lora.ConvTranspose{self.dimensions}d"


def _block_diagonal(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.block_diag(*blocks)
