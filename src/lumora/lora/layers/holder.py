"""Which adapters a layer has and which of them count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import nn

from lumora.errors import AdapterError
from lumora.lora.adapter import Adapter, Parts


class BaseTunerLayer:
    """What `isinstance` checks for "a layer with adapters" look for."""


class AdapterHolder(nn.Module, BaseTunerLayer):
    """A frozen layer and its adapters under their names: added, removed, renamed, chosen, scaled.

    What they compute is `LoraLayer`'s.
    """

    adapter_layer_names: ClassVar[tuple[str, ...]] = (
        "lora_A",
        "lora_B",
        "lora_embedding_A",
        "lora_embedding_B",
        "lora_magnitude_vector",
    )

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_dropout = nn.ModuleDict()
        self.lora_A = nn.ModuleDict()
        self.lora_B = nn.ModuleDict()
        self.lora_embedding_A = nn.ParameterDict()
        self.lora_embedding_B = nn.ParameterDict()
        self.lora_magnitude_vector = nn.ModuleDict()
        self.adapters: dict[str, Adapter] = {}
        self._active: tuple[str, ...] = ()
        self._disabled = False
        self._merged: tuple[str, ...] = ()
        self._gates = torch.zeros(0, 2)
        self.training = base_layer.training

    # --- adding, removing, choosing -------------------------------------------------------------------------------

    def add(self, parts: Parts) -> None:
        """Take in a new adapter."""
        name = parts.adapter.name
        self.adapters[name] = parts.adapter
        if isinstance(parts.a, nn.Parameter) and isinstance(parts.b, nn.Parameter):
            self.lora_embedding_A[name], self.lora_embedding_B[name] = parts.a, parts.b
        else:
            self.lora_A[name], self.lora_B[name] = parts.a, parts.b  # type: ignore[assignment]
        self.lora_dropout[name] = nn.Dropout(parts.dropout) if parts.dropout else nn.Identity()
        if parts.magnitude is not None:
            self.lora_magnitude_vector[name] = parts.magnitude
        for weight, value in (parts.base_weights or {}).items():
            getattr(self.base_layer, weight).data.copy_(value)
        for container in self.children():
            if container is not self.base_layer:
                container.train(self.training)
        self._refresh_gates()

    def remove(self, name: str) -> None:
        """Drop an adapter and its tensors."""
        self._check_known([name])
        if name in self._merged:
            raise AdapterError(f"Adapter {name!r} is merged; call unmerge_adapter() before deleting it.")
        del self.adapters[name]
        for container in (*self.adapter_layer_names, "lora_dropout"):
            part = getattr(self, container)
            if name in part:
                del part[name]
        self._active = tuple(n for n in self._active if n != name)
        self._refresh_gates()

    def rename(self, old: str, new: str) -> None:
        """Give an adapter another name."""
        self._check_known([old])
        self.adapters = {new if n == old else n: adapter for n, adapter in self.adapters.items()}
        self.adapters[new].name = new
        for container in (*self.adapter_layer_names, "lora_dropout"):
            part = getattr(self, container)
            if old in part:
                part[new] = part[old]
                del part[old]
        self._active = tuple(new if n == old else n for n in self._active)
        self._merged = tuple(new if n == old else n for n in self._merged)
        self._refresh_gates()

    def set_adapter(self, adapter_names: str | Sequence[str], inference_mode: bool = False) -> None:
        """Make exactly these adapters count, and train (unless `inference_mode`)."""
        names = (adapter_names,) if isinstance(adapter_names, str) else tuple(adapter_names)
        self._active = tuple(n for n in names if n in self.adapters)
        for name in self.adapters:
            for parameter in self.parameters_of(name):
                parameter.requires_grad_(name in self._active and not inference_mode)
        self._refresh_gates()

    def enable_adapters(self, enabled: bool) -> None:
        """Let the active adapters count, or none."""
        self._disabled = not enabled
        self._refresh_gates()

    def set_strength(self, name: str, strength: float) -> None:
        """Multiply an adapter's scaling with `strength` from now on; 1 is as trained."""
        self._check_known([name])
        self.adapters[name].strength = float(strength)
        self._refresh_gates()

    def set_scale(self, adapter: str, scale: float) -> None:
        """Set the scaling to `scale` times its initial value."""
        if adapter in self.adapters:
            self.set_strength(adapter, scale)

    def scale_layer(self, scale: float) -> None:
        """Multiply the scaling of every active adapter."""
        for name in self._active:
            self.set_strength(name, self.adapters[name].strength * scale)

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the scaling of every active adapter by `scale`, or put it back to its initial value."""
        for name in self._active:
            self.set_strength(name, 1.0 if scale is None else self.adapters[name].strength / scale)

    def _check_known(self, names: Sequence[str]) -> None:
        if unknown := [n for n in names if n not in self.adapters]:
            raise AdapterError(f"No adapter named {unknown}; this layer has {list(self.adapters)}.")

    @torch.inference_mode(False)
    def _refresh_gates(self) -> None:
        """Mirror the switches as a tensor for compiled graphs; changed in place so that no graph is built anew."""
        on = not self._disabled
        rows = [[float(on and n in self._active), adapter.scaling] for n, adapter in self.adapters.items()]
        values = torch.tensor(rows or torch.zeros(0, 2).tolist()).view(-1, 2)
        if values.shape == self._gates.shape:
            self._gates.copy_(values)
        else:
            self._gates = values.to(self._device())

    def _device(self) -> torch.device:
        return next(self.base_layer.parameters()).device

    def _apply(self, fn: Any, recurse: bool = True) -> AdapterHolder:
        super()._apply(fn, recurse)
        # The gates follow the weights to another device but stay in 32 bits.
        if self._gates.device != self._device():
            self._gates = torch.zeros_like(self._gates, device=self._device())
            if self._device().type != "meta":
                self._refresh_gates()
        return self

    # --- what users and tools read ----------------------------------------------------------------------------------

    def parameters_of(self, name: str) -> Iterator[nn.Parameter]:
        """Every parameter that belongs to an adapter."""
        for container in self.adapter_layer_names:
            part = getattr(self, container)
            if name in part:
                value = part[name]
                yield from [value] if isinstance(value, nn.Parameter) else value.parameters()

    def get_base_layer(self) -> nn.Module:
        """The layer that was adapted."""
        return self.base_layer

    @property
    def r(self) -> Mapping[str, int]:
        """Adapter name -> rank."""
        return MappingProxyType({n: a.r for n, a in self.adapters.items()})

    @property
    def lora_alpha(self) -> Mapping[str, float]:
        """Adapter name -> alpha."""
        return MappingProxyType({n: a.alpha for n, a in self.adapters.items()})

    @property
    def scaling(self) -> Mapping[str, float]:
        """Adapter name -> what its update is multiplied with."""
        return MappingProxyType({n: a.scaling for n, a in self.adapters.items()})

    @property
    def use_dora(self) -> Mapping[str, bool]:
        """Adapter name -> whether it is a DoRA adapter."""
        return MappingProxyType({n: a.use_dora for n, a in self.adapters.items()})

    @property
    def active_adapters(self) -> list[str]:
        """Names of the adapters that count."""
        return list(self._active)

    @property
    def active_adapter(self) -> str | list[str]:
        """The name of the only active adapter, or the list of them."""
        return self._active[0] if len(self._active) == 1 else list(self._active)

    @property
    def merged(self) -> bool:
        """Whether an adapter is folded into the weights now."""
        return bool(self._merged)

    @property
    def merged_adapters(self) -> list[str]:
        """Names of the adapters that are folded into the weights."""
        return list(self._merged)

    @property
    def disable_adapters(self) -> bool:
        """Whether all adapters are switched off."""
        return self._disabled

    def __getattr__(self, name: str) -> Any:
        """What the adapted layer does not have is the base layer's: `weight`, `in_features`, `stride`, ..."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer" or name.startswith("_"):
                raise
            return getattr(self.base_layer, name)
