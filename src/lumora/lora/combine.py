"""New adapters out of old ones: weighted combinations, and smaller copies.

What the combination types compute, for adapters i with weights w and scalings s (the result always has alpha = rank):

| type | result |
|---|---|
| linear | A = sum sign(w s) sqrt(abs(w s)) A_i, B = sum sqrt(abs(w s)) B_i; equal ranks |
| cat | A = the w s A_i stacked, B = the B_i side by side: exactly the weighted sum, ranks added |
| svd | the best approximation of the weighted sum of the updates at `svd_rank` |
| ties, dare_linear, dare_ties, magnitude_prune | as linear, A and B thinned out first (see `_merged`) |
| ..._svd | thinned out and summed as whole updates, then as svd |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lumora.errors import AdapterError
from lumora.lora import inject
from lumora.lora.adapter import Adapter, Parts
from lumora.lora.config import LoraConfig
from lumora.lora.initial import fill, moved, weight_of
from lumora.lora.layers import LoraLayer
from lumora.lora.saved import ModulesToSaveWrapper
from lumora.lora.targets import base_modules, exactly

if TYPE_CHECKING:
    from lumora.lora.tuner import LoraModel

METHODS = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
COMBINATION_TYPES = (*METHODS, "cat", "svd", *(f"{m}_svd" for m in METHODS[1:]))

Matrices = tuple[Tensor, Tensor]
"""A factor pair as (r, inputs) and (outputs, r)."""


@dataclass(frozen=True)
class Options:
    """The finer choices of a combination."""

    svd_rank: int | None = None
    svd_clamp: float | None = None
    svd_full_matrices: bool = True
    svd_driver: str | None = None
    density: float | None = None
    majority_sign_method: str = "total"


def add_weighted(
    model: LoraModel, adapters: list[str], weights: list[float], name: str, combination: str, options: Options
) -> None:
    """Add the combination of some adapters under a new name. On any problem nothing is added."""
    _check(model, adapters, weights, name, combination, options)
    made: dict[LoraLayer, Matrices] = {}
    for path, layer in model.model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        pairs = {n: w for n, w in zip(adapters, weights, strict=True) if n in layer.adapters}
        if pairs:
            made[layer] = _combined(path, layer, pairs, combination, options)
    _add(model, adapters, name, made)


def compress(
    model: LoraModel, old: str, new: str, *, rank: int | None = None, energy: float | None = None
) -> dict[str, float]:
    """Add a copy of an adapter with less rank; return the share of each update's energy that is kept."""
    _check_names(model, [old], new)
    if (rank is None) == (energy is None):
        raise AdapterError("Say either rank=... or energy=... (a share between 0 and 1), not both.")
    if (rank is not None and rank < 1) or (energy is not None and not 0 < energy <= 1):
        raise AdapterError(f"rank must be at least 1 and energy in (0, 1]; got rank={rank}, energy={energy}.")
    made: dict[LoraLayer, Matrices] = {}
    kept: dict[str, float] = {}
    for path, layer in model.model.named_modules():
        if isinstance(layer, LoraLayer) and old in layer.adapters:
            a, b = _update_of(layer, old, path)
            u, s, vh = _thin_svd(a, b * layer.adapters[old].scaling)
            power = s.double().square()
            # An update that is zero is kept whole by any rank.
            shares = power.cumsum(0) / power.sum() if power.sum() > 0 else torch.ones_like(power)
            k = int((shares < (energy or 0) - 1e-12).sum()) + 1 if rank is None else rank
            k = min(k, len(s))
            kept[path] = float(shares[k - 1])
            made[layer] = (vh[:k], u[:, :k] * s[:k])
    _add(model, [old], new, made)
    return kept


def _check(
    model: LoraModel, adapters: list[str], weights: list[float], name: str, combination: str, options: Options
) -> None:
    _check_names(model, adapters, name)
    if len(weights) != len(adapters):
        raise AdapterError(f"There are {len(adapters)} adapters and {len(weights)} weights; give one weight for each.")
    if combination not in COMBINATION_TYPES:
        raise AdapterError(
            f"There is no combination_type {combination!r}; choose one of {', '.join(COMBINATION_TYPES)}."
        )
    if options.majority_sign_method not in ("total", "frequency"):
        raise AdapterError(f"majority_sign_method is {options.majority_sign_method!r}; choose 'total' or 'frequency'.")
    thinned = combination.removesuffix("_svd") in METHODS[1:]
    if thinned and (options.density is None or not 0 <= options.density <= 1):
        raise AdapterError(f"{combination!r} needs density=..., the share of values to keep, between 0 and 1.")
    if options.svd_rank is not None and options.svd_rank < 1:
        raise AdapterError(f"svd_rank is {options.svd_rank}; it must be at least 1.")
    if combination in METHODS:
        for path, layer in model.model.named_modules():
            if isinstance(layer, LoraLayer):
                ranks = {n: layer.adapters[n].r for n in adapters if n in layer.adapters}
                if len(set(ranks.values())) > 1:
                    raise AdapterError(
                        f"{combination!r} adds the factors themselves, which needs equal ranks; {path} has {ranks}. "
                        "Use 'cat' or 'svd'."
                    )


def _check_names(model: LoraModel, adapters: list[str], name: str) -> None:
    if not adapters:
        raise AdapterError("Name at least one adapter to make the new one from.")
    model.check_known(adapters)
    model.check_free(name)
    for path, wrapper in model.model.named_modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            both = [n for n in adapters if n in wrapper.modules_to_save]
            if len(both) > 1:
                raise AdapterError(
                    f"{both} each bring their own {path} (modules_to_save); whole modules cannot be combined."
                )
        elif isinstance(wrapper, LoraLayer):
            special = [n for n in adapters if n in wrapper.use_dora and (wrapper.use_dora[n] or _bias(wrapper, n))]
            if special:
                raise AdapterError(f"{special} use DoRA or lora_bias at {path}, whose updates are no sums of products.")


def _bias(layer: LoraLayer, name: str) -> bool:
    return name in layer.lora_B and getattr(layer.lora_B[name], "bias", None) is not None


@torch.no_grad()
def _combined(
    path: str, layer: LoraLayer, weights: Mapping[str, float], combination: str, options: Options
) -> Matrices:
    w = torch.tensor(list(weights.values()), dtype=torch.float64)
    s = torch.tensor([layer.adapters[n].scaling for n in weights], dtype=torch.float64)
    if combination in ("cat", *METHODS):
        factors = [_factors(layer, n) for n in weights]
        if combination == "cat":
            return _side_by_side(factors, w * s, _groups(layer))
        root = (w * s).abs().sqrt()
        a = _merged([a for a, _ in factors], (w * s).sign() * root, combination, options)
        return a, _merged([b for _, b in factors], root, combination, options)
    pairs = [_update_of(layer, n, path) for n in weights]
    updates = [b @ a * float(x) for (a, b), x in zip(pairs, s, strict=True)]
    total = _merged(updates, w, "linear" if combination == "svd" else combination.removesuffix("_svd"), options)
    rank = options.svd_rank or max(layer.adapters[n].r for n in weights)
    return _best_of_rank(total, rank, options)


def _side_by_side(factors: list[Matrices], weights: Tensor, groups: int) -> Matrices:
    """Every group's rows of the first factors one below the other, the second factors beside each other."""
    shares = [(a * float(w)).unflatten(0, (groups, -1)) for (a, _), w in zip(factors, weights, strict=True)]
    return torch.cat(shares, dim=1).flatten(0, 1), torch.cat([b for _, b in factors], dim=1)


def _merged(tensors: list[Tensor], weights: Tensor, method: str, options: Options) -> Tensor:
    """A weighted sum, thinned out first.

    magnitude_prune keeps the largest values of each tensor, dare a random choice scaled up to the same expectation.
    ties keeps the largest, lets them vote on every position's sign, and averages those that agree.
    """
    density = 1.0 if options.density is None else options.density
    if method.startswith("dare"):
        tensors = [_random_share(t, density) for t in tensors]
    elif method != "linear":
        tensors = [_largest_share(t, density) for t in tensors]
    stack = torch.stack(tensors)
    weighted = stack * weights.to(stack).view(-1, *[1] * (stack.dim() - 1))
    if not method.endswith("ties"):
        return weighted.sum(0)
    votes = stack if options.majority_sign_method == "total" else stack.sign()
    sign = torch.where(votes.sum(0) >= 0, 1.0, -1.0)
    agrees = stack.sign() == sign
    return (weighted * agrees).sum(0) / agrees.sum(0).clamp_min(1)


def _largest_share(tensor: Tensor, density: float) -> Tensor:
    keep = int(density * tensor.numel())
    mask = torch.zeros(tensor.numel(), dtype=torch.bool, device=tensor.device)
    mask[tensor.abs().flatten().topk(keep).indices] = True
    return tensor * mask.view(tensor.shape)


def _random_share(tensor: Tensor, density: float) -> Tensor:
    keep = torch.bernoulli(torch.full_like(tensor, density))
    return tensor * keep / density if density else torch.zeros_like(tensor)


def _best_of_rank(matrix: Tensor, rank: int, options: Options) -> Matrices:
    u, s, vh = torch.linalg.svd(_wide(matrix), full_matrices=options.svd_full_matrices, driver=options.svd_driver)
    rank = min(rank, len(s))
    u, vh = u[:, :rank] * s[:rank], vh[:rank]
    if options.svd_clamp is not None:
        limit = torch.quantile(torch.cat([u.flatten(), vh.flatten()]), options.svd_clamp)
        u, vh = u.clamp(-limit, limit), vh.clamp(-limit, limit)
    return vh, u


def _thin_svd(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular values of `b @ a` without forming it: `r` by `r` work after two QR decompositions."""
    qb, rb = torch.linalg.qr(_wide(b))
    qa, ra = torch.linalg.qr(_wide(a).t())
    u, s, vh = torch.linalg.svd(rb @ ra.t())
    return qb @ u, s, vh @ qa.t()


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _factors(layer: LoraLayer, name: str) -> Matrices:
    """The factors themselves, with the rank in front and in the second dimension."""
    a, b = (t.detach() for t in layer.factors(name))
    # Factors with room for more rank than the adapter uses (see `padding`) are cut to what it uses, in every group.
    groups, used = _groups(layer), layer.adapters[name].r // _groups(layer)
    rows = layer.first_factor_view(a).flatten(1).unflatten(0, (groups, -1))[:, :used]
    return rows.flatten(0, 1), b[:, :used].flatten(1)


def _groups(layer: LoraLayer) -> int:
    return getattr(layer.base_layer, "groups", 1)


def _update_of(layer: LoraLayer, name: str, path: str) -> Matrices:
    """Two matrices whose product is the layer's whole update."""
    if problem := layer.merge_problem():
        raise AdapterError(
            f"{path}: {problem}. The types 'linear' and 'cat' work on the factors: they combine these too."
        )
    if len(layer.merge_sites()) > 1:
        raise AdapterError(f"{path} has several weights, whose updates are no one matrix; use 'linear' or 'cat'.")
    return _factors(layer, name)


def _add(model: LoraModel, sources: list[str], name: str, made: Mapping[LoraLayer, Matrices]) -> None:
    """Put the new factors in, beside the ones they come from."""
    first = model.peft_config[sources[0]]
    modules = dict(base_modules(model.model))
    paths = {layer: path for path, layer in modules.items() if isinstance(layer, LoraLayer)}
    ranks = {paths[layer]: a.shape[0] for layer, (a, _) in made.items()}
    common = max(ranks.values(), key=list(ranks.values()).count) if ranks else first.r
    different = {f"^{path.replace('.', chr(92) + '.')}": r for path, r in ranks.items() if r != common}
    config = replace(
        _with_all_targets([model.peft_config[n] for n in sources], list(ranks), list(modules)),
        r=common,
        lora_alpha=common,
        use_rslora=False,
        init_lora_weights=True,
        rank_pattern=different,
        alpha_pattern=dict(different),
        modules_to_save=_saved(model.model, sources),
        bias="none",
    )
    for layer, (a, b) in made.items():
        layer.add(_parts(layer, Adapter(name, a.shape[0], a.shape[0]), config, a, b))
    for wrapper in list(inject.wrappers(model.model)):
        if isinstance(wrapper, ModulesToSaveWrapper):
            for source in sources:
                if source in wrapper.modules_to_save:
                    wrapper.add(name, like=source)
    model.peft_config[name] = config
    inject.require_grad(model.model, name, False)


def _parts(layer: LoraLayer, adapter: Adapter, config: LoraConfig, a: Tensor, b: Tensor) -> Parts:
    """Factors of the layer's own shapes with the values of two matrices."""
    like = layer.factors(next(iter(layer.adapters)))[0]
    first, second = (moved(f, like.device, like.dtype) for f in layer.new_factors(adapter.r, False))
    fill(layer, weight_of(first).data, weight_of(second).data, b, a)
    return Parts(adapter, first, second, config.lora_dropout)


def _with_all_targets(configs: list[LoraConfig], adapted: list[str], paths: list[str]) -> LoraConfig:
    """The first configuration, meaning what all of them mean: their words together, or else the very paths."""
    first = configs[0]
    choices = {(repr(c.exclude_modules), repr(c.layers_to_transform), repr(c.layers_pattern)) for c in configs}
    words = [c.target_modules for c in configs]
    if len(choices) == 1 and all(word == words[0] for word in words):
        return first
    if len(choices) == 1 and all(isinstance(word, set | list) for word in words):
        return replace(first, target_modules={entry for word in words for entry in word or ()})
    targets = exactly(adapted, paths)
    return replace(first, target_modules=targets, exclude_modules=None, layers_to_transform=None, layers_pattern=None)


def _saved(model: nn.Module, sources: list[str]) -> list[str] | None:
    paths = [
        path
        for path, m in model.named_modules()
        if isinstance(m, ModulesToSaveWrapper) and any(n in m.modules_to_save for n in sources)
    ]
    return paths or None
