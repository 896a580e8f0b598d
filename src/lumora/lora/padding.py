"""Factors with room to spare, so that adapters of several ranks can take turns in tensors of one size.

A padded adapter of rank r uses the first r rows of A and columns of B; the others are zero and add nothing. In grouped
convolutions every group has its own share of both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lumora.errors import AdapterError
from lumora.lora.layers import LoraLayer

FIRST = ("lora_A", "lora_embedding_A")


def room(layer: LoraLayer, name: str) -> int:
    """The rank that an adapter's tensors have, its own or more."""
    return layer.first_factor_view(layer.factors(name)[0]).shape[0]


def used_rows(a: Tensor, r: int, groups: int) -> Tensor:
    """View the part of A that an adapter of rank r uses, as (groups, r / groups, ...)."""
    return a.unflatten(0, (groups, -1))[:, : r // groups]


def used_columns(b: Tensor, r: int, groups: int) -> Tensor:
    """View the part of B that an adapter of rank r uses."""
    return b[:, : r // groups]


def groups_of(layer: LoraLayer) -> int:
    """How many groups share the ranks of a layer's adapters."""
    return getattr(layer.base_layer, "groups", 1)


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
    groups, r = groups_of(layer), layer.adapters[name].r
    a, b = layer.factors(name)
    wide_a, wide_b = a.new_zeros(rank, *a.shape[1:]), b.new_zeros(b.shape[0], rank // groups, *b.shape[2:])
    used_rows(wide_a, r, groups).copy_(used_rows(a, r, groups))
    used_columns(wide_b, r, groups).copy_(used_columns(b, r, groups))
    _resize(layer, name, wide_a, wide_b)


def fits(layer: LoraLayer, name: str, a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are factors for this layer, of whatever rank."""
    old_a, old_b = layer.factors(name)
    r, groups = a.shape[0] if a.dim() else 0, groups_of(layer)
    same_a = a.dim() == old_a.dim() and a.shape[1:] == old_a.shape[1:]
    return r > 0 and r % groups == 0 and same_a and b.shape == (old_b.shape[0], r // groups, *old_b.shape[2:])


@torch.no_grad()
def write(layer: LoraLayer, name: str, a: Tensor, b: Tensor) -> None:
    """Put other factors in place of an adapter's: in the same tensors where they have room, else in new ones."""
    old_a, old_b = layer.factors(name)
    r, groups = a.shape[0], groups_of(layer)
    if r > room(layer, name):
        _resize(layer, name, a.to(old_a, copy=True), b.to(old_b, copy=True))
        return
    if r == room(layer, name):
        old_a.copy_(a)
        old_b.copy_(b)
        return
    old_a.zero_()
    old_b.zero_()
    Window(r, groups, True).write(old_a, a)
    Window(r, groups, False).write(old_b, b)


def _resize(layer: LoraLayer, name: str, a: Tensor, b: Tensor) -> None:
    """Put factors of another rank in place of an adapter's."""
    trained = layer.factors(name)[0].requires_grad
    if name in layer.lora_embedding_A:
        layer.lora_embedding_A[name] = nn.Parameter(a, trained)
        layer.lora_embedding_B[name] = nn.Parameter(b, trained)
        return
    down, up = layer.lora_A[name], layer.lora_B[name]
    down.weight, up.weight = nn.Parameter(a, trained), nn.Parameter(b, trained)
    sizes = {"out_features": (down, a.shape[0]), "in_features": (up, a.shape[0])}
    sizes |= {"out_channels": (down, a.shape[0]), "in_channels": (up, a.shape[0])}
    for attribute, (module, size) in sizes.items():
        if hasattr(module, attribute):
            setattr(module, attribute, size)


class Window(NamedTuple):
    """The part of a padded factor that its adapter uses; the only part that is saved and loaded."""

    r: int
    groups: int
    first: bool
    """Whether the factor is A."""

    def read(self, whole: Tensor) -> Tensor:
        """The part as a factor of the adapter's own rank."""
        if self.first:
            return used_rows(whole, self.r, self.groups).flatten(0, 1)
        return used_columns(whole, self.r, self.groups)

    def write(self, whole: Tensor, value: Tensor) -> None:
        """Copy a factor of the adapter's own rank into the part."""
        part = (used_rows if self.first else used_columns)(whole, self.r, self.groups)
        part.copy_(value.view(part.shape))


def window_of(layer: LoraLayer, name: str, key: str) -> Window | None:
    """The used part of the factor with this key ("lora_A.weight", say), or None where all of it is used."""
    container, _, attribute = key.partition(".")
    r = layer.adapters[name].r
    if container == "lora_magnitude_vector" or attribute == "bias" or room(layer, name) == r:
        return None
    return Window(r, groups_of(layer), container in FIRST)
