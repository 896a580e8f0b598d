"""Modules that are trained fully and saved with an adapter, such as a new head."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lumora.errors import AdapterError, RoutingError
from lumora.lora import routing


class AuxiliaryTrainingWrapper(nn.Module):
    """What `isinstance` checks for "a module that an adapter replaces as a whole" look for."""

    original_module: nn.Module


class ModulesToSaveWrapper(AuxiliaryTrainingWrapper):
    """A module of the base and one trained copy of it for each adapter. Costs one copy per adapter."""

    def __init__(self, original_module: nn.Module) -> None:
        super().__init__()
        self.original_module = original_module
        self.modules_to_save = nn.ModuleDict()
        self._active: str | None = None
        self._disabled = False
        self.training = self.modules_to_save.training = original_module.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the active adapter's copy, or the original; in a routed batch, each sample's own."""
        route = routing.current()
        if route is None or self._disabled:
            return self.chosen(*args, **kwargs)
        return self._routed(route, args, kwargs)

    def _routed(self, route: routing.Route, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run every module on its own samples, and put what they give back in order."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.dim()]
        sizes = {len(leaves[i]) for i in tensors}
        if len(sizes) != 1:
            raise RoutingError(
                f"{type(self.original_module).__name__} is called with tensors of {sorted(sizes)} entries; to be "
                "chosen per sample (adapter_names), each must hold the samples in its first dimension."
            )
        first, rows_of = route.rows(leaves[tensors[0]], 0)
        rows_of = {name: rows for name, rows in rows_of.items() if name in self.modules_to_save}
        rest = torch.ones(len(first), dtype=torch.bool, device=first.device)
        for rows in rows_of.values():
            rest[rows] = False
        groups = [(self.modules_to_save[name], rows) for name, rows in rows_of.items()]
        groups += [(self.original_module, rest.nonzero().flatten())] if rest.any() else []
        outputs: list[Any] = []
        for module, rows in groups:
            selected = list(leaves)
            for i in tensors:
                selected[i] = leaves[i].expand(len(first), *leaves[i].shape[1:]).index_select(0, rows)
            own_args, own_kwargs = pytree.tree_unflatten(selected, structure)
            outputs.append(module(*own_args, **own_kwargs))
        order = torch.cat([rows for _, rows in groups]).argsort()
        return pytree.tree_map(lambda *parts: self._in_order(parts, order), *outputs)

    def _in_order(self, parts: tuple[Any, ...], order: Tensor) -> Any:
        if all(part is None for part in parts):
            return None
        if not all(isinstance(part, Tensor) and part.dim() for part in parts):
            raise RoutingError(
                f"{type(self.original_module).__name__} gives {type(parts[0]).__name__}; only tensors with a dimension "
                "of samples can be put together from several modules."
            )
        return torch.cat([part.to(parts[0].dtype) for part in parts]).index_select(0, order)

    @property
    def chosen(self) -> nn.Module:
        """The module that counts now."""
        if self._disabled or self._active is None:
            return self.original_module
        return self.modules_to_save[self._active]

    def add(self, name: str, like: str | None = None) -> None:
        """Make a trainable copy for an adapter: of the original, or of another adapter's."""
        self.modules_to_save[name] = copy.deepcopy(self.original_module if like is None else self.modules_to_save[like])

    def remove(self, name: str) -> None:
        """Drop an adapter's copy."""
        del self.modules_to_save[name]
        if self._active == name:
            self._active = None

    def rename(self, old: str, new: str) -> None:
        """Give an adapter another name."""
        self.modules_to_save[new] = self.modules_to_save[old]
        del self.modules_to_save[old]
        if self._active == old:
            self._active = new

    def check_active(self, names: Sequence[str]) -> None:
        """Refuse two copies at once: their outputs cannot be added."""
        both = [n for n in names if n in self.modules_to_save]
        if len(both) > 1:
            raise AdapterError(
                f"The adapters {both} each bring their own {type(self.original_module).__name__} (modules_to_save); "
                "only one of them can be active."
            )

    def set_adapter(self, adapter_names: str | Sequence[str], inference_mode: bool = False) -> None:
        """Use the copy of one adapter, and train it (unless `inference_mode`)."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self.check_active(names)
        self._active = next((n for n in names if n in self.modules_to_save), None)
        self.original_module.requires_grad_(False)
        for name, module in self.modules_to_save.items():
            for parameter in module.parameters():
                if parameter.is_floating_point():
                    parameter.requires_grad_(name == self._active and not inference_mode)

    def enable_adapters(self, enabled: bool) -> None:
        """Use the active copy, or the original."""
        self._disabled = not enabled

    @property
    def active_adapters(self) -> list[str]:
        """The adapter whose copy counts, as a list."""
        return [] if self._active is None else [self._active]

    @property
    def active_adapter(self) -> str | None:
        """The adapter whose copy counts."""
        return self._active

    @property
    def disable_adapters(self) -> bool:
        """Whether the original is used whatever is active."""
        return self._disabled

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name in ("original_module", "modules_to_save"):
                raise
            return getattr(self.chosen, name)

    # A saved `Sequential` or `ModuleList` is also indexed and walked through.

    def __getitem__(self, index: Any) -> Any:
        return self._container()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._container())

    def __len__(self) -> int:
        return len(self._container())

    def __bool__(self) -> bool:
        return True

    def _container(self) -> Any:
        if routing.current() is not None and not self._disabled and self.modules_to_save:
            raise RoutingError(
                f"adapter_names cannot choose among the parts of a {type(self.original_module).__name__} that is saved "
                "whole, since the model takes them out one by one; run the adapters one after the other."
            )
        return self.chosen


class TrainableTokensWrapper(AuxiliaryTrainingWrapper):
    """A name for `isinstance` checks; nothing in Lumora is one, since vision models have no tokens to train."""
