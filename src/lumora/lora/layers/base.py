"""What every adapted layer computes, written once.

A layer kind (`linear.py`, `conv.py`, ...) supplies the shapes of its two factors and the products that apply them.
The forward pass, updates and merging are here, for all kinds; holding and choosing adapters is in `holder.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.errors import AdapterError, MergeError
from lumora.lora import routing
from lumora.lora.adapter import Magnitude
from lumora.lora.dropout import keep_mask
from lumora.lora.layers.holder import AdapterHolder
from lumora.lora.product import AdaptedProduct, Maps, fused_product_works_here

ALL = slice(None)


class Site(NamedTuple):
    """One weight of the base, or some rows of it, with the parts of the factors that change it."""

    weight: str = "weight"
    bias: str = "bias"
    rows: slice = ALL
    """Rows of the weight."""
    outputs: slice = ALL
    """Rows of the second factor and of the bias."""
    columns: slice = ALL
    """Columns of the first factor."""
    output_size: tuple[int, ...] | None = None
    """Which of the output sizes to give that the stride of a transposed convolution leaves open."""


class LoraLayer(AdapterHolder):
    """A frozen layer with any number of low-rank adapters.

    Costs: two factors per adapter. While merged, one copy of the weights that were merged into.
    """

    sites: tuple[Site, ...] = (Site(),)
    batch_dimension: int = 0
    """Which dimension of the input counts samples."""
    drops_input: bool = True
    """Whether dropout acts on the input; else (inputs that are no numbers) on what the first factor gives."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self._unmerged: dict[str, Tensor] = {}

    # --- what a kind supplies -------------------------------------------------------------------------------------

    @classmethod
    def unsuitable(cls, base_layer: nn.Module) -> str | None:
        """Say why this very module cannot be adapted although its kind can, or None."""
        return None

    @classmethod
    def rank_problem(cls, base_layer: nn.Module, r: int) -> str | None:
        """Say why the rank does not fit this module, or None."""
        return None

    @classmethod
    def inner(cls, base_layer: nn.Module) -> tuple[str, ...]:
        """Names of modules inside that are adapted along with this one."""
        return ()

    def new_factors(self, r: int, bias: bool) -> tuple[nn.Module | nn.Parameter, nn.Module | nn.Parameter]:
        """Return fresh factors, drawn as PEFT draws them, on the CPU in 32 bits."""
        raise NotImplementedError

    def maps(self, site: Site) -> Maps | None:
        """The products for the one-node fast path, or None where this layer has none."""
        raise NotImplementedError

    def call_base(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer as if it had no adapters."""
        return self.base_layer(*args, **kwargs)

    def base_product(self, x: Tensor, site: Site) -> Tensor:
        """What the base layer gives for `x`, hooks included."""
        return self.base_layer(x)

    def base_product_unhooked(self, x: Tensor, site: Site) -> Tensor:
        """The same without hooks, for a second product of one call."""
        return self.base_layer.forward(x)

    def down(self, x: Tensor, a: Tensor, site: Site) -> Tensor:
        """Apply the first factor."""
        raise NotImplementedError

    def up(self, h: Tensor, b: Tensor, bias: Tensor | None, site: Site) -> Tensor:
        """Apply the second factor."""
        raise NotImplementedError

    def as_matrix(self, weight: Tensor) -> Tensor:
        """View a weight of the base as (outputs, inputs)."""
        return weight

    def from_matrix(self, matrix: Tensor, weight: Tensor) -> Tensor:
        """The reverse of `as_matrix`, for a matrix that is to replace or change `weight`."""
        return matrix.view(weight.shape)

    def factor_matrices(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """View the factors as (r, inputs) and (outputs, r), so that their product is the update as a matrix."""
        return a, b

    def first_factor_view(self, a: Tensor) -> Tensor:
        """View the first factor with its rank in front, sharing its memory."""
        return a

    def merge_problem(self) -> str | None:
        """Say why updates of this layer have no place in its weight, or None."""
        return None

    def peft_reads(self) -> bool:
        """Whether PEFT reads adapters of this layer; where it does not, their files say so."""
        return True

    def per_output(self, vector: Tensor) -> Tensor:
        """Shape a value per output so that it broadcasts over the layer's output."""
        return vector

    # --- forward --------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The base's output plus every active adapter's; never changes anything."""
        if self._merged and routing.current() is not None:
            raise AdapterError("Adapters cannot be chosen per sample while merged; call unmerge_adapter() first.")
        if self.rests():
            return self.call_base(*args, **kwargs)
        return self.adapted(*args, **kwargs)

    def rests(self) -> bool:
        """Whether the base alone gives the output: no adapter counts, or they are merged into it.

        A compiled graph asks its gates which adapters count, and so stays valid when that changes.
        """
        if self._merged:
            return True
        if torch.compiler.is_compiling() or routing.current() is not None:
            return not self.adapters
        return self._disabled or not self._active

    def adapted(self, input: Tensor) -> Tensor:
        """The forward pass with adapters, its arguments named as the base's. Layers with more inputs override it."""
        return self.product(input, self.sites[0])

    def product(self, x: Tensor, site: Site) -> Tensor:
        """One adapted product: traced, routed per sample, in one autograd node, or spelled out."""
        if LoraLayer.rests(self):
            return self.base_product(x, site)
        route = routing.current()
        if route is not None:
            return self._routed_product(x, site, route)
        if torch.compiler.is_compiling():
            return self._traced_product(x, site)
        names, base = self._active, None
        if maps := self._fused_maps(x, site, names[0]):
            y, names = self._fused_product(x, site, maps, names[0]), names[1:]
        else:
            y = base = self.base_product(x, site)
        for name in names:
            y = y + self.contribution(x, base, site, name, self.adapters[name].scaling).to(y.dtype)
        return y

    def contribution(self, x: Tensor, base: Tensor | None, site: Site, name: str, scaling: float | Tensor) -> Tensor:
        """What one adapter adds to the base's output; `base` is that output if it is at hand."""
        a, b, bias = self.site_factors(name, site)
        x, a, b = self._in_common_dtype(x, a, b)
        p = self._dropout_probability(name)
        dropped = dropout(x, p) if self.drops_input else x
        h = self.down(dropped, a, site)
        if not self.drops_input:
            h = dropout(h, p)
        update = self.up(h, b, None if bias is None else bias.to(b.dtype), site) * scaling
        if not self.adapters[name].use_dora:
            return update
        # DoRA: magnitude / |W + update| * (W + update) x, as a change of W x. Both terms see the dropped input.
        if base is None or dropped is not x or _has_hooks(self.base_layer):
            base = self.base_product_unhooked(dropped, site)
        site_bias = self._site_bias(site)
        plain = base if site_bias is None else base - self.per_output(site_bias)
        stretch = self.per_output(self._stretch(name, site, scaling)).to(update.dtype)
        return (stretch - 1) * plain + stretch * update

    def _traced_product(self, x: Tensor, site: Site) -> Tensor:
        """All adapters with tensors as switches, so that a compiled graph outlives any change of them."""
        y = base = self.base_product(x, site)
        for i, name in enumerate(self.adapters):
            active, scaling = self._gates[i, 0], self._gates[i, 1]
            y = y + (self.contribution(x, base, site, name, scaling) * active).to(y.dtype)
        return y

    def _routed_product(self, x: Tensor, site: Site, route: routing.Route) -> Tensor:
        """Each sample with its own adapters: every adapter sees the samples that want it, and only those."""
        batch = self.batch_dimension
        x, rows_of = route.rows(x, batch)
        y = base = self.base_product(x, site)
        if self._disabled:
            return base
        for name, rows in rows_of.items():
            if name not in self.adapters:
                continue
            part = self.contribution(
                x.index_select(batch, rows), base.index_select(batch, rows), site, name, self.adapters[name].scaling
            )
            y = y.index_add(batch, rows, part.to(y.dtype))
        return y

    def _fused_maps(self, x: Tensor, site: Site, name: str) -> Maps | None:
        """The maps of the fast path when nothing that it leaves out is in use."""
        weight = getattr(self.base_layer, site.weight)
        if self.adapters[name].use_dora or weight.requires_grad or _has_hooks(self.base_layer):
            return None
        if not fused_product_works_here() or self.site_factors(name, site)[2] is not None:
            return None
        return self.maps(site)

    def _fused_product(self, x: Tensor, site: Site, maps: Maps, name: str) -> Tensor:
        weight = self.map_weight(site)
        bias = self._site_bias(site)
        a, b, _ = self.site_factors(name, site)
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            x_, a, b = self._in_common_dtype(x, a, b)
            return _apply(x_, weight, bias, a, b, maps, self.adapters[name].scaling, self._dropout_probability(name))
        dtype = torch.get_autocast_dtype(device)
        x, weight, a, b = (t.to(dtype) for t in (x, weight, a, b))
        bias = None if bias is None else bias.to(dtype)
        with torch.autocast(device, enabled=False):
            return _apply(x, weight, bias, a, b, maps, self.adapters[name].scaling, self._dropout_probability(name))

    def map_weight(self, site: Site) -> Tensor:
        """The site's weight with the outputs first."""
        return getattr(self.base_layer, site.weight)[site.rows]

    def _site_bias(self, site: Site) -> Tensor | None:
        bias = getattr(self.base_layer, site.bias, None)
        return None if bias is None else bias[site.outputs]

    def _dropout_probability(self, name: str) -> float:
        module = self.lora_dropout[name]
        return float(module.p) if module.training and isinstance(module, nn.Dropout) else 0.0

    def _in_common_dtype(self, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute in the input's precision; the factors themselves stay as precise as they are."""
        dtype = x.dtype if x.is_floating_point() else self.map_weight(self.sites[0]).dtype
        return x, a.to(dtype), b.to(dtype)

    # --- factors and updates --------------------------------------------------------------------------------------

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        """The two factors of an adapter."""
        return self.lora_A[name].weight, self.lora_B[name].weight  # type: ignore[return-value]

    def site_factors(self, name: str, site: Site) -> tuple[Tensor, Tensor, Tensor | None]:
        """The parts of the factors that act at a site, and the second factor's bias if it has one."""
        a, b = self.factors(name)
        bias = getattr(self.lora_B[name], "bias", None) if name in self.lora_B else None
        if site.columns != ALL:
            a = a[:, site.columns]
        if site.outputs != ALL:
            b, bias = b[site.outputs], None if bias is None else bias[site.outputs]
        return a, b, bias

    def update_matrix(self, name: str, site: Site | None = None) -> Tensor:
        """`scaling * B A` of a site as (outputs, inputs)."""
        a, b, _ = self.site_factors(name, site or self.sites[0])
        a, b = self.factor_matrices(a, b)
        return (b @ a) * self.adapters[name].scaling

    def get_delta_weight(self, adapter: str) -> Tensor:
        """What merging `adapter` alone would add to `weight`, in the weight's own shape.

        For DoRA this is the whole change of the weight, magnitude included.
        """
        if len({site.weight for site in self.sites}) > 1:
            raise AdapterError("This layer has several weights; use delta_weights(adapter).")
        return self.delta_weights(adapter)[self.sites[0].weight]

    def delta_weights(self, name: str) -> dict[str, Tensor]:
        """The change of every weight of the base by one adapter."""
        if problem := self.merge_problem():
            raise MergeError(problem)
        deltas: dict[str, Tensor] = {}
        for site in self.merge_sites():
            weight = self._original(site.weight).detach()
            wide = torch.promote_types(weight.dtype, torch.float32)
            update = self.update_matrix(name, site).to(wide)
            if self.adapters[name].use_dora:
                matrix = self.as_matrix(weight).to(wide)
                stretch = self._stretch(name, site, self.adapters[name].scaling).to(wide)[:, None]
                update = stretch * (matrix + update) - matrix
            deltas[site.weight] = self.from_matrix(update, weight)
        return deltas

    def merge_sites(self) -> tuple[Site, ...]:
        """Sites that together cover every weight once."""
        return self.sites

    def _original(self, weight: str) -> Tensor:
        """A weight of the base as it is without anything merged into it."""
        return self._unmerged[weight] if weight in self._unmerged else getattr(self.base_layer, weight)

    def _stretch(self, name: str, site: Site, scaling: float | Tensor) -> Tensor:
        """DoRA's magnitude over the length of each output's row of `W + update`; the length carries no gradient."""
        with torch.no_grad():
            lengths = self.output_lengths(self.factors(name), site, scaling)
        magnitude: Tensor = self.lora_magnitude_vector[name].weight  # type: ignore[assignment]
        return magnitude.flatten()[site.outputs] / lengths

    def output_lengths(
        self, factors: tuple[Tensor, Tensor], site: Site, scaling: float | Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """The length of each output's row of `W + scaling B A`, in 32 bits at least; `weight` stands in for the base's.

        Half precision would round away the very changes that the lengths follow.
        """
        a, b = self.factor_matrices(factors[0][:, site.columns] if site.columns != ALL else factors[0], factors[1])
        matrix = self.as_matrix(self._original(site.weight) if weight is None else weight)[site.rows]
        wide = torch.promote_types(matrix.dtype, torch.float32)
        with torch.autocast(matrix.device.type, enabled=False):
            update = scaling * (b[site.outputs].to(wide) @ a.to(wide))
            return torch.linalg.vector_norm(matrix.to(wide) + update, dim=1)

    # --- merging --------------------------------------------------------------------------------------------------

    def merge(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> None:
        """Fold adapters into the base's weights. Costs one copy of those weights until `unmerge`."""
        names = self._unmerged_among(adapter_names or self._active)
        if not names:
            return
        if problem := self.why_not_merge(names, safe=safe_merge):
            raise MergeError(f"Cannot merge {names}: {problem}.")
        changed = self.merged_weights(names)
        for weight, value in changed.items():
            parameter: Tensor = getattr(self.base_layer, weight)
            self._unmerged.setdefault(weight, parameter.detach().clone())
            parameter.data.copy_(value)
        self._merged = (*self._merged, *names)

    def why_not_merge(self, names: Sequence[str], *, safe: bool = False) -> str | None:
        """Say why these adapters cannot be merged here, or None. `safe` asks of the sum, too, whether it is finite."""
        names = self._unmerged_among(names)
        if names and (problem := self.merge_problem()):
            return problem
        for name in names:
            for site in self.merge_sites():
                if self.site_factors(name, site)[2] is not None and getattr(self.base_layer, site.bias) is None:
                    return f"adapter {name!r} has a bias (lora_bias), and the layer has none that could take it up"
        if safe and any(not torch.isfinite(value).all() for value in self.merged_weights(names).values()):
            return "values that are not finite would come into the base"
        return None

    def _unmerged_among(self, names: Sequence[str]) -> list[str]:
        return [n for n in names if n in self.adapters and n not in self._merged]

    def merged_weights(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The weights (and, with `lora_bias`, the bias) that the base would have with these adapters folded in."""
        totals: dict[str, Tensor] = {}
        for name in names:
            for weight, delta in self.delta_weights(name).items():
                if weight not in totals:
                    totals[weight] = getattr(self.base_layer, weight).detach().to(delta.dtype)
                totals[weight] = totals[weight] + delta
            for site in self.merge_sites():
                bias = self.site_factors(name, site)[2]
                if bias is not None:
                    if site.bias not in totals:
                        base_bias: Tensor = getattr(self.base_layer, site.bias).detach()
                        totals[site.bias] = base_bias.to(torch.promote_types(base_bias.dtype, bias.dtype), copy=True)
                    totals[site.bias][site.outputs] += bias.detach() * self.adapters[name].scaling
        return {weight: value.detach().to(getattr(self.base_layer, weight).dtype) for weight, value in totals.items()}

    def unmerge(self) -> None:
        """Put back, bit for bit, the weights that `merge` replaced."""
        for weight, value in self._unmerged.items():
            getattr(self.base_layer, weight).data.copy_(value)
        self._unmerged, self._merged = {}, ()

    def _get_name(self) -> str:
        return f"lora.{type(self).__name__}"


def dropout(x: Tensor, p: float) -> Tensor:
    """Dropout with cheap masks; while tracing, torch's own."""
    if not p:
        return x
    if not fused_product_works_here():
        return F.dropout(x, p)
    return x * (keep_mask(x, p).to(x.dtype) / (1.0 - p))


def magnitude_for(
    layer: LoraLayer, factors: tuple[Tensor, Tensor], scaling: float, weights: Mapping[str, Tensor] | None = None
) -> Magnitude:
    """DoRA's magnitudes at the start: the lengths of the rows of `W + scaling B A`, so that nothing changes.

    `weights` are what the base's weights become with this adapter, where it changes them.
    """
    weights = weights or {}
    with torch.no_grad():
        lengths = [layer.output_lengths(factors, s, scaling, weights.get(s.weight)) for s in layer.merge_sites()]
    return Magnitude(layer.per_output(torch.cat(lengths)))


def _apply(*args: Any) -> Tensor:
    return AdaptedProduct.apply(*args)  # type: ignore[return-value]


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
