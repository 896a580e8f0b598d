"""Places in a shared base where bundles differ: each sample of a batch gets what its own bundle has there.

However many bundles a batch holds, an adapted layer takes two batched products for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lumora.errors import RoutingError
from lumora.lora.routing import Route
from lumora.serve.hosting.addition import Addition, Update
from lumora.serve.hosting.norms import Affine, affine_of


class Riders:
    """The bundles of the samples in the batch that runs now; all places of a base look here."""

    def __init__(self, sequence_first: bool) -> None:
        self._sequence_first = sequence_first
        self._route = Route(())
        self.additions: Sequence[Addition] = ()
        """One for each sample; none when the base runs as it is."""
        self.only: Addition | None = None
        """The one that all samples have, if they have the same."""

    def board(self, additions: Sequence[Addition]) -> None:
        """Let the next batch be of these bundles, in this order."""
        self.additions = tuple(additions)
        self.only = additions[0] if len(set(additions)) == 1 else None
        self._route = Route([str(i) for i in range(len(additions))], self._sequence_first)

    def updates_at(self, path: str) -> list[Update | None] | Update | None:
        """A layer's update for each sample; the one, or None for none, where all samples have the same."""
        if self.only is not None or not self.additions:
            return self.only.updates.get(path) if self.only is not None else None
        return [addition.updates.get(path) for addition in self.additions]

    def by_sample(self, x: Tensor) -> Tensor:
        """The input with one entry for each sample in front, or several together; an error where that is not sure."""
        return self._route.spread(x, 0)


class Place(nn.Module):
    """A module of the base, and the place where bundles differ from it."""

    def __init__(self, base_layer: nn.Module, path: str, riders: Riders) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.path = path
        self.riders = riders

    def __getattr__(self, name: str) -> Any:
        """What this does not have is the base's: its weight, its sizes."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer" or name.startswith("_"):
                raise
            return getattr(self.base_layer, name)


# --- linear layers and convolutions -----------------------------------------------------------------------------------


class LinearPlace(Place):
    """A linear layer whose updates are each sample's own."""

    def forward(self, x: Tensor) -> Tensor:
        """The base's output, changed as each sample's bundle says; x is (B, …, in), or (B · k, …, in)."""
        updates = self.riders.updates_at(self.path)
        if not isinstance(updates, list):
            return self._alike(x, updates)
        x = self.riders.by_sample(x)
        y: Tensor = self.base_layer(x)
        size = len(updates)
        whole = _stretched(y.reshape(size, -1, y.shape[-1]), updates, _last)  # (B, entries, out)
        if (factors := stacked(updates)) is not None:
            a, b = factors
            low = torch.bmm(x.reshape(size, -1, x.shape[-1]), a.mT)  # (B, entries, r)
            whole = whole.baddbmm_(low, b.mT)  # it is nobody else's yet
        return _shifted(whole, updates, _last).view(y.shape)

    def _alike(self, x: Tensor, update: Update | None) -> Tensor:
        """The output for samples that all have the same update."""
        y: Tensor = self.base_layer(x)
        if update is None:
            return y
        if update.stretch is not None:
            y = y * update.stretch
        if update.a is not None and update.b is not None:
            y = y + F.linear(F.linear(x, update.a), update.b)
        return y if update.shift is None else y + update.shift


class ConvPlace(Place):
    """A convolution of two dimensions, not grouped, whose updates are each sample's own."""

    base_layer: nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """The base's output, changed as each sample's bundle says; x is (B, C, H, W)."""
        updates = self.riders.updates_at(self.path)
        if not isinstance(updates, list):
            return self._alike(x, updates)
        if len(x) != len(updates):
            raise RoutingError(f"{self.path} sees {len(x)} entries in a batch of {len(updates)} samples.")
        y: Tensor = self.base_layer(x)
        whole = _stretched(y.flatten(2), updates, _middle)  # (B, out, places)
        if (factors := stacked(updates)) is not None:
            a, b = factors
            whole = whole.baddbmm_(b, self._down(x, a))  # it is nobody else's yet
        return _shifted(whole, updates, _middle).view(y.shape)

    def _alike(self, x: Tensor, update: Update | None) -> Tensor:
        """The output for samples that all have the same update: of one convolution with the changed weight.

        To change it costs little beside moving a second kernel over the maps.
        """
        layer = self.base_layer
        if update is None:
            return layer(x)
        weight, bias = layer.weight.flatten(1), layer.bias
        if update.stretch is not None:
            weight = weight * update.stretch[:, None]
            bias = None if bias is None else bias * update.stretch
        if update.a is not None and update.b is not None:
            weight = torch.addmm(weight, update.b, update.a.flatten(1))
        if update.shift is not None:
            bias = update.shift if bias is None else bias + update.shift
        return F.conv2d(x, weight.view_as(layer.weight), bias, layer.stride, layer.padding, layer.dilation)

    def _down(self, x: Tensor, a: Tensor) -> Tensor:
        """The first factors (B, r, C, h, w) on their samples: (B, r, places)."""
        layer, size = self.base_layer, len(x)
        if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and not any(layer.padding):
            return torch.bmm(a.flatten(2), x.flatten(2))
        # One convolution in as many groups as there are samples: each group's kernel is one sample's.
        together = x.reshape(1, -1, *x.shape[2:])
        low = F.conv2d(together, a.flatten(0, 1), None, layer.stride, layer.padding, layer.dilation, groups=size)
        return low.reshape(size, a.shape[1], -1)


def stacked(updates: Sequence[Update | None]) -> tuple[Tensor, Tensor] | None:
    """The factors of all samples, one after the other; zeros fill up smaller ranks. None where no sample has any."""
    first = [None if update is None else update.a for update in updates]
    second = [None if update is None else update.b for update in updates]
    ranks = {tensor.shape[0] for tensor in first if tensor is not None}
    if not ranks:
        return None
    return _filled_up(first, 0, max(ranks)), _filled_up(second, 1, max(ranks))


def _filled_up(tensors: Sequence[Tensor | None], dimension: int, rank: int) -> Tensor:
    """A stack of tensors whose `dimension` becomes `rank`."""
    some = next(tensor for tensor in tensors if tensor is not None)
    nothing: Tensor | None = None
    made: list[Tensor] = []
    for tensor in tensors:
        if tensor is None:
            if nothing is None:
                nothing = some.new_zeros([rank if i == dimension else n for i, n in enumerate(some.shape)])
            made.append(nothing)
        elif tensor.shape[dimension] == rank:
            made.append(tensor)
        else:
            after = 2 * (tensor.dim() - dimension - 1)  # F.pad counts from the last dimension
            made.append(F.pad(tensor, [0] * after + [0, rank - tensor.shape[dimension]]))
    return torch.stack(made)


Shaped = Callable[[Tensor], Tensor]
"""Gives a vector per output, or one for each sample, the dimensions of an output."""


def _last(vector: Tensor) -> Tensor:
    return vector[:, None] if vector.dim() == 2 else vector


def _middle(vector: Tensor) -> Tensor:
    return vector[..., None]


def _stretched(y: Tensor, updates: Sequence[Update | None], shaped: Shaped) -> Tensor:
    vectors = [None if update is None else update.stretch for update in updates]
    return y if not any(v is not None for v in vectors) else y * shaped(_rows(vectors, 1.0))


def _shifted(y: Tensor, updates: Sequence[Update | None], shaped: Shaped) -> Tensor:
    vectors = [None if update is None else update.shift for update in updates]
    return y if not any(v is not None for v in vectors) else y + shaped(_rows(vectors, 0.0))


def _rows(vectors: Sequence[Tensor | None], otherwise: float) -> Tensor:
    """Vectors as rows, those that are missing full of one value."""
    some = next(vector for vector in vectors if vector is not None)
    neutral = torch.full_like(some, otherwise)
    return torch.stack([neutral if vector is None else vector for vector in vectors])


# --- modules that were trained whole ----------------------------------------------------------------------------------


class NormPlace(Place):
    """A norm with each sample's own weights and statistics, in one go for all samples."""

    def forward(self, x: Tensor) -> Tensor:
        """What each sample's norm gives."""
        riders = self.riders
        if not riders.additions:
            return self.base_layer(x)
        if riders.only is not None:
            return riders.only.modules.get(self.path, self.base_layer)(x)
        affines = [self._affine(addition) for addition in riders.additions]
        scale = torch.stack([affine.scale for affine in affines])
        shift = torch.stack([affine.shift for affine in affines])
        return affines[0].apply(self.base_layer, riders.by_sample(x), scale, shift)

    def _affine(self, addition: Addition) -> Affine:
        affine = affine_of(addition.modules.get(self.path, self.base_layer))
        assert affine is not None
        return affine


class ModulePlace(Place):
    """Any module: each bundle's own runs on its own samples."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the samples' modules give, in the samples' order; fewer labels than others have are filled up by zeros.

        Tensors among the arguments must hold the samples in their first dimension.
        """
        riders = self.riders
        if not riders.additions:
            return self.base_layer(*args, **kwargs)
        if riders.only is not None:
            return riders.only.modules.get(self.path, self.base_layer)(*args, **kwargs)
        rows: dict[nn.Module, list[int]] = {}
        for i, addition in enumerate(riders.additions):
            rows.setdefault(addition.modules.get(self.path, self.base_layer), []).append(i)
        leaves, structure = pytree.tree_flatten((args, kwargs))
        outputs: list[Any] = []
        for module, own in rows.items():
            parts = [self._of(leaf, own, len(riders.additions)) for leaf in leaves]
            own_args, own_kwargs = pytree.tree_unflatten(parts, structure)
            outputs.append(module(*own_args, **own_kwargs))
        order = torch.tensor([i for own in rows.values() for i in own]).argsort()
        return pytree.tree_map(lambda *parts: self._together(parts, order), *outputs)

    def _of(self, leaf: Any, rows: list[int], count: int) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            return leaf
        if len(leaf) != count:
            raise RoutingError(f"{self.path} sees {len(leaf)} entries in a batch of {count} samples.")
        return leaf[rows]

    def _together(self, parts: tuple[Any, ...], order: Tensor) -> Any:
        if all(part is None for part in parts):
            return None
        if not all(isinstance(part, Tensor) and part.dim() > 1 for part in parts):
            raise RoutingError(f"{self.path} gives something else than tensors with a dimension of samples.")
        most = max(part.shape[1] for part in parts)
        wide = [_with_columns(part, most) for part in parts]
        if len({part.shape[1:] for part in wide}) != 1:
            raise RoutingError(f"{self.path} gives tensors of several sizes: {[tuple(p.shape) for p in parts]}.")
        return torch.cat(wide)[order.to(wide[0].device)]


def _with_columns(part: Tensor, count: int) -> Tensor:
    missing = count - part.shape[1]
    return part if not missing else F.pad(part, [0, 0] * (part.dim() - 2) + [0, missing])


def place_for(module: nn.Module, path: str, riders: Riders, *, whole: bool) -> Place | None:
    """A place for updates of a layer, or (`whole`) for modules instead of it; None where there is none of its kind."""
    if whole:
        kind = NormPlace if affine_of(module) is not None else ModulePlace
        return kind(module, path, riders)
    if type(module) is nn.Conv2d:
        fits = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return ConvPlace(module, path, riders) if fits else None
    if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
        return LinearPlace(module, path, riders)
    return None
