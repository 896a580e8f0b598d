"""EVA: start adapters from the data (Paischer et al. 2024).

The first factor of each layer begins as the directions that explain most of what really flows into the layer. Where
`rho > 1`, more directions than the average rank are looked at everywhere, and ranks go to the layers whose directions
explain most. The second factor starts at zero, so the model's outputs do not change.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lumora.errors import AdapterError, ConfigError, LumoraWarning
from lumora.lora import inject
from lumora.lora.adapter import Adapter, Parts
from lumora.lora.config import EvaConfig, LoraConfig
from lumora.lora.files import root_of
from lumora.lora.initial import fill, moved, weight_of
from lumora.lora.layers import Conv, Conv1D, Linear, LoraLayer
from lumora.lora.targets import base_modules

Forward = Callable[[nn.Module, Any], Any]


@dataclass
class _Layer:
    """What is known of one layer's inputs: their second moment, and the directions at the last look."""

    moment: Tensor
    count: int = 0
    directions: Tensor | None = None
    variances: Tensor | None = None
    done: bool = False

    def look(self, k: int, tau: float) -> None:
        """Take the k leading directions, and see whether they still move."""
        values, vectors = torch.linalg.eigh(self.moment)
        before, k = self.directions, min(k, len(values))
        directions = vectors.flip(1)[:, :k].t().contiguous()  # (k, in)
        self.directions = directions
        self.variances = values.flip(0)[:k].clamp_min(0) / max(1, self.count - 1)
        if before is not None:
            self.done = bool(((before * directions).sum(1).abs() >= tau).all())


def run_model(model: nn.Module, batch: Any) -> Any:
    """Call a model with a batch: a mapping by name, a pair by its first part, a tensor as it is."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(batch[0] if isinstance(batch, list | tuple) else batch)


@torch.no_grad()
def get_eva_state_dict(
    model: nn.Module,
    dataloader: Iterable[Any],
    peft_config: LoraConfig | None = None,
    forward_fn: Forward = run_model,
    prepare_model_inputs_fn: None = None,
    prepare_layer_inputs_fn: None = None,
    adapter_name: str = "default",
    gather_distributed_inputs: bool = True,
    show_progress_bar: bool = True,
) -> dict[str, Tensor]:
    """Return, for every adapted layer that can take them, the leading directions of its inputs: path -> (rank, inputs).

    Looks at batches until the directions stand still (`EvaConfig.tau`) or the data ends. Costs one matrix of inputs
    by inputs for each layer that is looked at. The arguments are those of `initialize_lora_eva_weights`.
    """
    _refuse_preparation(prepare_model_inputs_fn, prepare_layer_inputs_fn)
    root, _ = root_of(model)
    config = peft_config or getattr(root, "peft_config", {}).get(adapter_name)
    if config is None:
        raise AdapterError(f"There is no adapter {adapter_name!r} to find directions for.")
    options = config.eva_config if isinstance(config.eva_config, EvaConfig) else EvaConfig()
    layers = {
        path: m
        for path, m in base_modules(root)
        if isinstance(m, LoraLayer) and adapter_name in m.adapters and _input_size(m)
    }
    if not layers:
        raise AdapterError("EVA looks at the inputs of linear layers and plain convolutions; none is adapted here.")
    sizes = {path: _input_size(m) for path, m in layers.items()}
    known = {path: _Layer(torch.zeros(n, n, dtype=torch.float64)) for path, n in sizes.items()}
    largest = {path: max(1, round(options.rho * m.adapters[adapter_name].r)) for path, m in layers.items()}
    batches = 0
    with _observed(model, layers, known, options):
        for batch in dataloader:
            forward_fn(model, _on_device(batch, next(model.parameters()).device))
            batches += 1
            for path, layer in known.items():
                if not layer.done and layer.count:
                    layer.look(largest[path], options.tau)
            if all(layer.done for layer in known.values()):
                break
    seen = {path: layer for path, layer in known.items() if layer.directions is not None}
    if missed := [path for path in known if path not in seen]:
        warnings.warn(
            f"EVA: {batches} batches never reached {missed[:4]}; they keep their start.", LumoraWarning, stacklevel=2
        )
    ranks = _share_out({path: layers[path].adapters[adapter_name].r for path in seen}, seen)
    return {path: _directions(layer, ranks[path], options) for path, layer in seen.items() if ranks[path]}


def initialize_lora_eva_weights(
    model: nn.Module,
    dataloader: Iterable[Any] | None = None,
    eva_state_dict: Mapping[str, Tensor] | None = None,
    forward_fn: Forward = run_model,
    prepare_model_inputs_fn: None = None,
    prepare_layer_inputs_fn: None = None,
    adapter_name: str = "default",
    gather_distributed_inputs: bool = True,
    show_progress_bar: bool = True,
) -> None:
    """Start an adapter that was made with `init_lora_weights="eva"` from data.

    Args:
        model: a `PeftModel`.
        dataloader: batches that `forward_fn` understands; a few hundred samples are plenty.
        eva_state_dict: directions from an earlier `get_eva_state_dict`, instead of data.
        forward_fn: how to run the model on a batch.
        prepare_model_inputs_fn: kept for PEFT's callers, who give None for pictures.
        prepare_layer_inputs_fn: the same.
        adapter_name: which adapter.
        gather_distributed_inputs: kept for PEFT's callers; every process looks at its own batches.
        show_progress_bar: kept for PEFT's callers; none is shown.
    """
    _refuse_preparation(prepare_model_inputs_fn, prepare_layer_inputs_fn)
    root, _ = root_of(model)
    config: LoraConfig | None = getattr(root, "peft_config", {}).get(adapter_name)
    if config is None or config.init_lora_weights != "eva":
        raise ConfigError(f"Adapter {adapter_name!r} was not made with init_lora_weights='eva'.")
    if (dataloader is None) == (eva_state_dict is None):
        raise ConfigError("Give either a dataloader or an eva_state_dict.")
    if eva_state_dict is None:
        eva_state_dict = get_eva_state_dict(model, dataloader or (), config, forward_fn, adapter_name=adapter_name)
    options = config.eva_config if isinstance(config.eva_config, EvaConfig) else EvaConfig()
    layers = {path: m for path, m in base_modules(root) if isinstance(m, LoraLayer) and adapter_name in m.adapters}
    if unknown := [path for path in eva_state_dict if path not in layers]:
        raise AdapterError(f"The directions are for layers that adapter {adapter_name!r} does not have: {unknown[:4]}.")
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for path, directions in eva_state_dict.items():
        ranks[path], alphas[path] = _restart(layers[path], adapter_name, directions, config, options)
    dropped = [path for path in layers if _input_size(layers[path]) and path not in eva_state_dict]
    for path in dropped:
        layers[path].remove(adapter_name)
    _note_ranks(root, adapter_name, config, ranks, alphas, dropped)


def _refuse_preparation(*functions: object) -> None:
    if any(function is not None for function in functions):
        raise ConfigError(
            "prepare_model_inputs_fn and prepare_layer_inputs_fn leave out the padding of texts; here every position "
            "that a layer sees counts. Pass None, and leave out in forward_fn what shall not count."
        )


def _restart(
    layer: LoraLayer, name: str, directions: Tensor, config: LoraConfig, options: EvaConfig
) -> tuple[int, float]:
    """Replace an adapter by one whose first factor is these directions; return its rank and alpha."""
    old = layer.adapters[name]
    active, trained = layer.active_adapters, [p.requires_grad for p in layer.parameters_of(name)]
    like, r = layer.factors(name)[0], directions.shape[0]
    alpha = old.alpha
    if options.adjust_scaling_factors:
        alpha = old.alpha * ((r / old.r) ** 0.5 if old.use_rslora else r / old.r)
    adapter = Adapter(name, r, alpha, old.use_rslora, old.use_dora, old.strength)
    first, second = layer.new_factors(r, config.lora_bias)
    left = weight_of(second).data
    fill(layer, weight_of(first).data, left, torch.zeros(left.shape).flatten(1), directions)
    if isinstance(second, nn.Module) and isinstance(bias := getattr(second, "bias", None), Tensor):
        bias.data.zero_()
    first, second = (moved(factor, like.device, like.dtype) for factor in (first, second))
    magnitude = dict(layer.lora_magnitude_vector.items()).get(name)
    made = Parts(adapter, first, second, config.lora_dropout, magnitude)
    layer.remove(name)
    layer.add(made)
    layer.set_adapter([n for n in active if n in layer.adapters], inference_mode=not any(trained))
    return r, alpha


def _note_ranks(
    root: nn.Module,
    name: str,
    config: LoraConfig,
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    dropped: list[str],
) -> None:
    """Write the ranks that were found into the configuration, so that the saved adapter can be read back."""
    exact = {path: f"^{path.replace('.', chr(92) + '.')}" for path in ranks}
    targets = config.target_modules
    if dropped:
        layers = [p for p, m in base_modules(root) if isinstance(m, LoraLayer) and name in m.adapters]
        targets = set(layers)
    root.peft_config[name] = replace(  # type: ignore[index]
        config,
        target_modules=targets,
        rank_pattern={**{exact[p]: r for p, r in ranks.items() if r != config.r}, **config.rank_pattern},
        alpha_pattern={**{exact[p]: a for p, a in alphas.items() if a != config.lora_alpha}, **config.alpha_pattern},
    )


def _share_out(wanted: Mapping[str, int], layers: Mapping[str, _Layer]) -> dict[str, int]:
    """Give the whole budget of ranks to the directions that explain the largest shares of their layers' variance."""
    shares: list[tuple[float, str]] = []
    for path, layer in layers.items():
        assert layer.variances is not None
        total = float(layer.moment.diagonal().sum()) / max(1, layer.count - 1)
        shares += [(float(v) / max(total, 1e-30), path) for v in layer.variances]
    shares.sort(key=lambda pair: -pair[0])
    ranks = dict.fromkeys(wanted, 0)
    for _, path in shares[: sum(wanted.values())]:
        ranks[path] += 1
    return ranks


def _directions(layer: _Layer, rank: int, options: EvaConfig) -> Tensor:
    assert layer.directions is not None and layer.variances is not None
    directions = layer.directions[:rank]
    if options.whiten:
        directions = directions / layer.variances[:rank].sqrt().clamp_min(1e-12)[:, None]
    return directions.float()


@contextmanager
def _observed(
    model: nn.Module, layers: Mapping[str, LoraLayer], known: Mapping[str, _Layer], options: EvaConfig
) -> Generator[None]:
    """Collect the second moments of what flows into the layers, with the adapters switched off."""

    def watcher(path: str, layer: LoraLayer) -> Any:
        def watch(_: nn.Module, args: tuple[Any, ...]) -> None:
            state = known[path]
            if not state.done:
                rows = _input_rows(layer, args[0].detach()).double()
                state.moment += (rows.t() @ rows).cpu()
                state.count += len(rows)

        return watch

    handles = [layer.register_forward_pre_hook(watcher(path, layer)) for path, layer in layers.items()]
    training, disabled = {m: m.training for m in model.modules()}, [w.disable_adapters for w in inject.wrappers(model)]
    try:
        model.eval()
        for wrapper in inject.wrappers(model):
            wrapper.enable_adapters(False)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for wrapper, was in zip(inject.wrappers(model), disabled, strict=True):
            wrapper.enable_adapters(not was)
        for module, mode in training.items():
            module.training = mode


def _input_size(layer: LoraLayer) -> int:
    """How long a row of the layer's weight is as a matrix, 0 for kinds that EVA passes over."""
    if not isinstance(layer, Linear | Conv1D | Conv) or layer.merge_problem():
        return 0
    return layer.as_matrix(layer.base_layer.weight).shape[1]  # type: ignore[arg-type]


def _input_rows(layer: LoraLayer, x: Tensor) -> Tensor:
    """Everything that the layer's weight is multiplied with, as rows."""
    if not isinstance(layer, Conv):
        return x.reshape(-1, x.shape[-1])
    base: Any = layer.base_layer
    n = layer.dimensions
    x = x if x.dim() == n + 2 else x[None]
    mode = "constant" if base.padding_mode == "zeros" else base.padding_mode
    x = F.pad(x, base._reversed_padding_repeated_twice, mode)
    for i in range(n):
        step, reach = base.dilation[i], (base.kernel_size[i] - 1) * base.dilation[i] + 1
        x = x.unfold(2 + i, reach, base.stride[i])[..., ::step]
    return x.movedim(1, 1 + n).flatten(1 + n).flatten(0, n)  # (positions, in * kernel)


def _on_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {k: _on_device(v, device) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_on_device(v, device) for v in value]
    return value
