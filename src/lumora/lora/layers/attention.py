"""Adapters for `nn.MultiheadAttention`.

torch's layer holds its input projections as bare tensors and may run in one native call that reads them directly, so
the attention is computed here, from adapted projections. The output projection is an ordinary linear layer and gets
an ordinary adapter, once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.lora.layers.base import LoraLayer, Site
from lumora.lora.layers.linear import MAPS
from lumora.lora.product import Maps

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class MultiheadAttention(LoraLayer):
    """Multi-head attention with adapters on its input projections.

    Factors with one packed input projection: A (r, d), B (3d, r), as in PEFT. With separate projections for queries,
    keys and values: A (r, d + kdim + vdim), whose columns belong to the three inputs, and B (3d, r); PEFT cannot read
    it.
    """

    base_layer: Any

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        # Nobody may take torch's native path here, which reads the packed weights: its callers ask for this first.
        self._qkv_same_embed_dim = False
        # The base is not called while adapters count, but hooks that users put on it are.
        for name in _HOOKS:
            setattr(self, name, getattr(base_layer, name))
        d: int = self.base_layer.embed_dim
        outputs = [slice(i * d, (i + 1) * d) for i in range(3)]
        self.batch_dimension = 0 if base_layer.batch_first else 1
        if base_layer._qkv_same_embed_dim:
            self.whole = Site("in_proj_weight", "in_proj_bias")
            self.sites = tuple(Site("in_proj_weight", "in_proj_bias", rows=rows, outputs=rows) for rows in outputs)
            return
        kdim, vdim = self.base_layer.kdim, self.base_layer.vdim
        ends = (d, d + kdim, d + kdim + vdim)
        self.whole = None
        self.sites = tuple(
            Site(f"{name}_proj_weight", "in_proj_bias", outputs=rows, columns=slice(start, end))
            for name, rows, start, end in zip("qkv", outputs, (0, *ends[:2]), ends, strict=True)
        )

    @property
    def _is_full_backward_hook(self) -> bool | None:
        """Of which sort the backward hooks are: the base's, since they are shared."""
        base = self._modules.get("base_layer") if "_modules" in self.__dict__ else None
        return None if base is None else base._is_full_backward_hook

    @_is_full_backward_hook.setter
    def _is_full_backward_hook(self, value: bool | None) -> None:  # type: ignore[override]
        base = self._modules.get("base_layer") if "_modules" in self.__dict__ else None
        if base is not None:
            base._is_full_backward_hook = value

    @classmethod
    def inner(cls, base_layer: nn.Module) -> tuple[str, ...]:
        return ("out_proj",)

    def merge_sites(self) -> tuple[Site, ...]:
        return self.sites if self.whole is None else (self.whole,)

    def new_factors(self, r: int, bias: bool) -> tuple[nn.Module, nn.Module]:
        base = self.base_layer
        n_in = base.embed_dim if self.whole else base.embed_dim + base.kdim + base.vdim
        return nn.Linear(n_in, r, bias=False), nn.Linear(r, 3 * base.embed_dim, bias=bias)

    def peft_reads(self) -> bool:
        return self.whole is not None

    def rests(self) -> bool:
        # torch's own forward reads the output projection's weight and would pass over an adapter on it.
        inner = self.base_layer.out_proj
        return super().rests() and (not isinstance(inner, LoraLayer) or inner.rests())

    def call_base(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_layer.forward(*args, **kwargs)

    def maps(self, site: Site) -> Maps | None:
        return MAPS

    def base_product(self, x: Tensor, site: Site) -> Tensor:
        return F.linear(x, self.map_weight(site), self._site_bias(site))

    def base_product_unhooked(self, x: Tensor, site: Site) -> Tensor:
        return self.base_product(x, site)

    def down(self, x: Tensor, a: Tensor, site: Site) -> Tensor:
        return F.linear(x, a)

    def up(self, h: Tensor, b: Tensor, bias: Tensor | None, site: Site) -> Tensor:
        return F.linear(h, b, bias)

    def adapted(  # type: ignore[override] - attention has three inputs and two outputs
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        base = self.base_layer
        batched = query.dim() == 3
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal=True is a hint about attn_mask; give the attn_mask as well.")
        q, k, v = self._projected(query, key, value, batched)  # (B, L, d), (B, S, d), (B, S, d)
        k, v, extra = self._with_extra_positions(k, v)
        q, k, v = (
            t.unflatten(-1, (base.num_heads, base.head_dim)).transpose(1, 2) for t in (q, k, v)
        )  # (B, H, L, d/H)
        mask = _combined_mask(attn_mask, key_padding_mask, q, extra)
        p = base.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * base.head_dim**-0.5
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = F.dropout(weights, p) if p else weights
            y = weights @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, p)
        y = base.out_proj(y.transpose(1, 2).flatten(2))  # (B, L, d)
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return y[0], None if weights is None else weights[0]
        return (y if base.batch_first else y.transpose(0, 1)), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor, batched: bool) -> tuple[Tensor, ...]:
        """The three projections with the batch in front; in one product when they share their input."""
        if self.whole is not None and query is key and key is value:
            x = query if batched else query.unsqueeze(self.batch_dimension)
            projected = self.product(x, self.whole).chunk(3, dim=-1)
        else:
            inputs = [x if batched else x.unsqueeze(self.batch_dimension) for x in (query, key, value)]
            projected = tuple(self.product(x, site) for x, site in zip(inputs, self.sites, strict=True))
        if not self.base_layer.batch_first:
            return tuple(t.transpose(0, 1) for t in projected)
        return tuple(projected)

    def _with_extra_positions(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Append what `add_bias_kv` and `add_zero_attn` ask for; say how many positions that is."""
        base, batch, extra = self.base_layer, k.shape[0], 0
        if base.bias_k is not None:
            k = torch.cat([k, base.bias_k.expand(batch, -1, -1)], dim=1)
            v = torch.cat([v, base.bias_v.expand(batch, -1, -1)], dim=1)
            extra += 1
        if base.add_zero_attn:
            zeros = k.new_zeros(batch, 1, k.shape[-1])
            k, v, extra = torch.cat([k, zeros], dim=1), torch.cat([v, zeros], dim=1), extra + 1
        return k, v, extra


def _combined_mask(attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, extra: int) -> Tensor | None:
    """Both masks as one that is added to the scores (B or 1, H or 1, L or 1, S)."""
    total = None
    if attn_mask is not None:
        mask = _additive(attn_mask, q.dtype)
        total = mask[None, None] if mask.dim() == 2 else mask.view(q.shape[0], -1, *mask.shape[-2:])
    if padding is not None:
        mask = _additive(padding if padding.dim() == 2 else padding[None], q.dtype)[:, None, None, :]
        total = mask if total is None else total + mask
    return F.pad(total, (0, extra)) if total is not None and extra else total


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    return mask.to(dtype)
