"""Adapters for linear layers that are never called: the module around them reads their weight and multiplies itself.

An adapter that waits for a call would do nothing there. This one answers with the adapted weight when it is asked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lumora.errors import AdapterError
from lumora.lora import routing
from lumora.lora.layers.linear import Linear

_ATTENTION = ("qkv",)
_BOTH = ("qkv", "proj")
READERS: dict[str, tuple[str, ...]] = {
    "timm.models.beit.Attention": _ATTENTION,
    "timm.models.eva.EvaAttention": _ATTENTION,
    "timm.models.swin_transformer_v2.WindowAttention": _ATTENTION,
    "torchvision.models.swin_transformer.ShiftedWindowAttention": _BOTH,
    "torchvision.models.video.swin_transformer.ShiftedWindowAttention3d": _BOTH,
}
"""Modules, by their type's name, that may read the weight of these linear layers instead of calling them."""


class LentLinear(Linear):
    """A linear layer whose `weight` is the adapted one, for modules that read it; called, it is like any other.

    Costs one sum of the weight's size each time it is read. Dropout cannot act there, since the input is not seen.
    """

    @property
    def weight(self) -> Tensor:
        """The weight with every active adapter in it, differentiable in the factors."""
        base: Tensor = self.base_layer.weight  # type: ignore[assignment]
        if routing.current() is not None and self.adapters:
            raise AdapterError(
                "adapter_names works layer by layer, but here the module around a layer reads its weight, one for the "
                "whole batch; run the adapters one after the other."
            )
        if self.rests():
            return base
        if torch.compiler.is_compiling():
            total = base
            for i, name in enumerate(self.adapters):
                active, scaling = self._gates[i, 0], self._gates[i, 1]
                total = total + (self._change(name, scaling) * active).to(base.dtype)
            return total
        total = base
        for name in self._active:
            total = total + self._change(name, self.adapters[name].scaling).to(base.dtype)
        return total

    def _change(self, name: str, scaling: float | Tensor) -> Tensor:
        """What one adapter adds to the weight."""
        site = self.sites[0]
        a, b, _ = self.site_factors(name, site)
        with torch.autocast(a.device.type, enabled=False):
            update = (b @ a) * scaling
            if not self.adapters[name].use_dora:
                return update
            plain: Tensor = self.base_layer.weight.to(update.dtype)  # type: ignore[operator]
            return self._stretch(name, site, scaling).to(update.dtype)[:, None] * (plain + update) - plain

    def _get_name(self) -> str:
        return "lora.Linear"


def is_lent(owner: nn.Module | None, name: str) -> bool:
    """Whether a module may read the weight of its child `name` instead of calling it."""
    names = (READERS.get(f"{cls.__module__}.{cls.__qualname__}", ()) for cls in type(owner).__mro__)
    return any(name in known for known in names)
