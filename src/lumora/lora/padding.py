"""Factors with room to spare, so that adapters of several ranks can take turns in tensors of one size.

A padded adapter of rank r uses the first r ranks of both factors; the others are zero and add nothing. In grouped
convolutions every group has its own share of the ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lumora.errors import AdapterError
from lumora.lora.layers import LoraLayer


class Window(NamedTuple):
    """The part of a padded factor that its adapter uses; the only part that is saved and loaded."""

    ranks: int
    """How many ranks each group uses."""
    groups: int
    rank_first: Callable[[Tensor], Tensor]
    """Views the factor with its ranks in front; applied twice it gives the factor back."""

    def part(self, whole: Tensor) -> Tensor:
        """View the part as (groups, ranks of each, ...)."""
        return self.rank_first(whole).unflatten(0, (self.groups, -1))[:, : self.ranks]

    def read(self, whole: Tensor) -> Tensor:
        """The part as a factor of the adapter's own rank."""
        return self.rank_first(self.part(whole).flatten(0, 1))

    def write(self, whole: Tensor, value: Tensor) -> None:
        """Copy a factor of the adapter's own rank into the part."""
        self.part(whole).copy_(self.rank_first(value).unflatten(0, (self.groups, -1)))


def room(layer: LoraLayer, name: str) -> int:
    """The rank that an adapter's tensors have, its own or more."""
    return layer.first_factor_view(layer.factors(name)[0]).shape[0]


def window_of(layer: LoraLayer, name: str, key: str) -> Window | None:
    """The used part of the factor with this key ("lora_A.weight", say), or None where all of it is used."""
    container, _, attribute = key.partition(".")
    r = layer.adapters[name].r
    if container == "lora_magnitude_vector" or attribute == "bias" or room(layer, name) == r:
        return None
    return _windows(layer, r)[0 if container in ("lora_A", "lora_embedding_A") else 1]


def check_room(layer: LoraLayer, name: str, rank: int) -> None:
    """Raise when an adapter cannot be given room for `rank`."""
    groups, r = groups_of(layer), layer.adapters[name].r
    if rank < r or rank % groups:
        raise AdapterError(
            f"Adapter {name!r} of rank {r} in {groups} group(s) cannot be padded to rank {rank}: that must be at least "
            "as much, and a multiple of the groups."
        )


@torch.no_grad()
def pad(layer: LoraLayer, name: str, rank: int) -> None:
    """Give an adapter's factors room for `rank`. What the layer computes stays the same."""
    check_room(layer, name, rank)
    if rank <= room(layer, name):
        return
    wide: list[Tensor] = []
    sizes = (rank, rank // groups_of(layer))
    for factor, size, window in zip(layer.factors(name), sizes, _windows(layer, layer.adapters[name].r), strict=True):
        ranks_first = window.rank_first(factor)
        wider = window.rank_first(factor.new_zeros(size, *ranks_first.shape[1:])).contiguous()
        window.part(wider).copy_(window.part(factor))
        wide.append(wider)
    _replace(layer, name, wide[0], wide[1])


def fits(layer: LoraLayer, name: str, a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are factors for this layer, of whatever rank."""
    old_a, old_b = layer.factors(name)
    if a.dim() != old_a.dim() or b.dim() != old_b.dim():
        return False
    r, *rest = layer.first_factor_view(a).shape
    same = rest == [*layer.first_factor_view(old_a).shape[1:]]
    groups = groups_of(layer)
    return same and r > 0 and r % groups == 0 and b.shape == (old_b.shape[0], r // groups, *old_b.shape[2:])


@torch.no_grad()
def write(layer: LoraLayer, name: str, a: Tensor, b: Tensor) -> None:
    """Put other factors in place of an adapter's: in the same tensors where they have room, else in new ones."""
    old_a, old_b = layer.factors(name)
    r, space = layer.first_factor_view(a).shape[0], room(layer, name)
    layer.adapters[name].r = r
    if r > space:
        _replace(layer, name, a.to(old_a, copy=True), b.to(old_b, copy=True))
        return
    for old, new, window in zip((old_a, old_b), (a, b), _windows(layer, r), strict=True):
        if r == space:
            old.copy_(new)
        else:
            old.zero_()
            window.write(old, new)


def _windows(layer: LoraLayer, r: int) -> tuple[Window, Window]:
    """The parts of both factors that an adapter of rank r uses."""
    groups = groups_of(layer)
    return Window(r // groups, groups, layer.first_factor_view), Window(r // groups, 1, _second_dimension_first)


def _second_dimension_first(b: Tensor) -> Tensor:
    return b.transpose(0, 1)


def groups_of(layer: LoraLayer) -> int:
    """How many groups share the ranks of a layer's adapters."""
    return getattr(layer.base_layer, "groups", 1)


def _replace(layer: LoraLayer, name: str, a: Tensor, b: Tensor) -> None:
    """Put factors of another rank in place of an adapter's."""
    trained = layer.factors(name)[0].requires_grad
    if name in layer.lora_embedding_A:
        layer.lora_embedding_A[name] = nn.Parameter(a, trained)
        layer.lora_embedding_B[name] = nn.Parameter(b, trained)
        return
    down, up, r = layer.lora_A[name], layer.lora_B[name], layer.first_factor_view(a).shape[0]
    down.weight, up.weight = nn.Parameter(a, trained), nn.Parameter(b, trained)
    for module, attribute in ((down, "out_features"), (down, "out_channels"), (up, "in_features"), (up, "in_channels")):
        if hasattr(module, attribute):
            setattr(module, attribute, r)
