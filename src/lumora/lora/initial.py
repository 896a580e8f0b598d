"""How the factors of a new adapter start.

Every start but `False` leaves the model's output as it was: one factor is zero, or their product is, or the base
gives up what the factors take over (PiSSA, OLoRA).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lumora.errors import ConfigError
from lumora.lora.adapter import Adapter, Magnitude, Parts
from lumora.lora.config import LoraConfig, Start
from lumora.lora.layers.base import LoraLayer, magnitude_for


def new_parts(
    layer: LoraLayer, adapter: Adapter, config: LoraConfig, *, full_precision: bool = True, on_meta: bool = False
) -> Parts:
    """Build an adapter for a layer without touching the layer.

    Args:
        layer: the layer that will hold it.
        adapter: its name, rank and alpha.
        config: how it starts, its dropout and whether it is DoRA.
        full_precision: 32-bit factors for a 16-bit base; else the base's own precision.
        on_meta: give the factors no storage; they are about to be loaded.
    """
    weight: Tensor = getattr(layer.base_layer, layer.sites[0].weight)
    dtype = torch.float32 if full_precision and weight.dtype in (torch.float16, torch.bfloat16) else weight.dtype
    with torch.device("meta" if on_meta else "cpu"):
        a, b = layer.new_factors(adapter.r, config.lora_bias)
    residual = None
    if not on_meta:
        residual = _start(layer, a, b, adapter, config.init_lora_weights, dtype)
    device = torch.device("meta") if on_meta else weight.device
    a, b = moved(a, device, dtype), moved(b, device, dtype)
    magnitude = None
    if adapter.use_dora:
        factors = (weight_of(a).detach(), weight_of(b).detach())
        if device.type == "meta":
            magnitude = Magnitude(layer.per_output(torch.empty(factors[1].shape[0], device=device)))
        else:
            magnitude = magnitude_for(layer, factors, adapter.scaling, residual)
        magnitude = magnitude.to(dtype=dtype)
    return Parts(adapter, a, b, config.lora_dropout, magnitude, residual)


@torch.no_grad()
def _start(
    layer: LoraLayer,
    a: nn.Module | nn.Parameter,
    b: nn.Module | nn.Parameter,
    adapter: Adapter,
    start: Start,
    dtype: torch.dtype,
) -> dict[str, Tensor] | None:
    """Fill the factors; return the base's new weights if the start changes them."""
    first, second = weight_of(a), weight_of(b)
    if start is False:
        return None
    if isinstance(b, nn.Module) and isinstance(bias := getattr(b, "bias", None), Tensor):
        bias.zero_()
    if isinstance(a, nn.Parameter) and start in (True, "gaussian", "eva"):
        first.zero_()
        second.normal_()
    elif start == "gaussian":
        first.normal_(std=1 / adapter.r)
        second.zero_()
    elif start in (True, "eva"):
        nn.init.kaiming_uniform_(first, a=math.sqrt(5))
        second.zero_()
    else:
        # Before they are filled: what the base gives up must be what the factors hold, to the last bit they have.
        first.data, second.data = first.to(dtype), second.to(dtype)
        return _from_matrices(layer, first, second, adapter, str(start))
    return None


def _from_matrices(layer: LoraLayer, a: Tensor, b: Tensor, adapter: Adapter, start: str) -> dict[str, Tensor] | None:
    """The starts that think of the layer as one matrix."""
    first, *others = layer.merge_sites()
    if problem := layer.merge_problem() or ("it has several weights" if others else None):
        raise ConfigError(f"init_lora_weights={start!r} needs a layer that is one matrix: {problem}.")
    weight: Tensor = getattr(layer.base_layer, first.weight).detach()
    wide = torch.promote_types(weight.dtype, torch.float32)
    matrix = layer.as_matrix(weight).to("cpu", wide)
    if adapter.r > min(matrix.shape) and start != "orthogonal":
        raise ConfigError(
            f"init_lora_weights={start!r} takes {adapter.r} directions out of a {tuple(matrix.shape)} matrix, which "
            f"has {min(matrix.shape)}; use a smaller rank there (rank_pattern)."
        )
    if not torch.isfinite(matrix).all():
        raise ConfigError(f"init_lora_weights={start!r} reads the base's weights, and these are not all finite.")
    if start == "orthogonal":
        left, right = _orthogonal(matrix.shape[0], matrix.shape[1], adapter.r, wide)
    elif start == "olora":
        q, upper = torch.linalg.qr(matrix)
        left, right = q[:, : adapter.r], upper[: adapter.r]
    else:
        left, right = _principal(matrix, adapter.r, adapter.scaling, start)
    fill(layer, a, b, left, right)
    if start == "orthogonal":
        return None
    rest = matrix - adapter.scaling * (left.to(b.dtype).to(wide) @ right.to(a.dtype).to(wide))
    return {first.weight: layer.from_matrix(rest.to(weight), weight)}


def _principal(matrix: Tensor, r: int, scaling: float, start: str) -> tuple[Tensor, Tensor]:
    """PiSSA: the largest r singular directions, shared evenly between the factors."""
    if start == "pissa":
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        u, s, vh = u[:, :r], s[:r], vh[:r]
    else:
        # The same directions every time: when the adapter is read back, the base must give up the same again.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            u, s, v = torch.svd_lowrank(matrix, r, niter=int(start.removeprefix("pissa_niter_")))
        vh = v.t()
    root = (s / scaling).sqrt()
    return u * root, root[:, None] * vh


def _orthogonal(n_out: int, n_in: int, r: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Factors that are not zero but whose product is: each works in its own half of an orthogonal basis."""
    # Drawn in 32 bits whatever comes after, so that a seed gives the same factors.
    basis = torch.linalg.qr(torch.randn(r, r).to(dtype))[0]
    ours, theirs = basis[:, : r // 2], basis[:, r // 2 :]
    right = ours @ torch.randn(r // 2, n_in).to(dtype) / 10
    left = torch.randn(n_out, r // 2).to(dtype) @ theirs.t() / 10
    return left, right


def fill(layer: LoraLayer, a: Tensor, b: Tensor, left: Tensor, right: Tensor) -> None:
    """Write matrices (outputs, r) and (r, inputs) into factors of the layer's own shapes."""
    first = layer.first_factor_view(a)
    first.copy_(right.reshape(first.shape))
    b.copy_(left.reshape(b.shape))


def weight_of(factor: nn.Module | nn.Parameter) -> Tensor:
    """The tensor of a factor."""
    return factor if isinstance(factor, nn.Parameter) else factor.weight  # type: ignore[return-value]


def moved(factor: nn.Module | nn.Parameter, device: torch.device, dtype: torch.dtype) -> nn.Module | nn.Parameter:
    """A factor on another device, in another precision."""
    if isinstance(factor, nn.Parameter):
        return nn.Parameter(factor.detach().to(device, dtype))
    return factor.to(device, dtype)
