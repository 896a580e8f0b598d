"""What an adapted model must compute: the base itself, with W + ΔW written into its weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from tests.lora import reference
from tests.lora.models.zoo import Architecture
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.lora.layers import LoraLayer

PREFIX = "base_model.model."


def adapted(architecture: Architecture, dtype: torch.dtype = torch.float64, **options: Any) -> PeftModel:
    """A fresh base with an adapter, none of whose values is zero, in eval mode."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*larger than the layers")
        torch.manual_seed(3)
        model = get_peft_model(architecture.base(dtype), LoraConfig(**{"r": 2, "lora_alpha": 3, **options}))
        draw(model)
    return model.to(dtype)


def draw(model: nn.Module) -> None:
    """Random values for every factor."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_magnitude_vector." in name:
                parameter.mul_(0.5 + torch.rand_like(parameter))
            elif ".lora_" in name:
                parameter.copy_(torch.randn_like(parameter) / 3)


def factors(model: PeftModel, name: str = "default") -> dict[str, nn.Parameter]:
    """The parameters of one adapter."""
    return {k: p for k, p in model.named_parameters() if ".lora_" in k and f".{name}" in k}


def weights(model: PeftModel, base: nn.Module, names: tuple[str, ...] = ("default",)) -> dict[str, Tensor]:
    """The base's adapted weights as formulas of the adapters' factors, under the base's own names."""
    found: dict[str, Tensor] = {}
    own = dict(base.named_parameters())
    of_adapters = {key: parameter for key, parameter in model.named_parameters() if ".lora_" in key}
    for path, module in base.named_modules():
        for name in names:
            tensors = _below(of_adapters, path)
            if not any(f".{name}" in key and "base_layer" not in key for key in tensors):
                continue
            scaling = reference.scaling_of(model.peft_config[name])
            for key, amount in reference.changes(module, tensors, name, scaling).items():
                whole = f"{path}.{key}"
                found[whole] = found.get(whole, own[whole].detach()) + amount
    return found


def _below(of_adapters: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The parameters of adapters in the layer at `path`, the output projection of attention included."""
    start = f"{PREFIX}{path}."
    return {
        key.removeprefix(start): parameter
        for key, parameter in of_adapters.items()
        if key.startswith(f"{start}lora_") or key.startswith(f"{start}base_layer.out_proj.lora_")
    }


def run_by_hand(base: nn.Module, found: Mapping[str, Tensor], sample: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    """Run the base with other weights, differentiable in them."""
    return torch.func.functional_call(base, dict(found), *sample)


def written(base: nn.Module, found: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the base that holds these weights as its own."""
    base = copy.deepcopy(base)
    with torch.no_grad():
        for name, value in found.items():
            base.get_parameter(name).copy_(value)
    return base


def tensors(output: Any) -> list[Tensor]:
    """Every tensor of a model's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, Mapping) else output or ()
    return [t for value in values for t in tensors(value)]


def scalar(output: Any) -> Tensor:
    """A number that depends on every value of an output differently."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return sum((t * torch.randn(t.shape, dtype=t.dtype)).sum() for t in tensors(output))


def assert_same(ours: Any, theirs: Any) -> None:
    """Bit for bit."""
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-8) -> None:
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, b.abs().max().item()))


def layers(model: nn.Module) -> list[LoraLayer]:
    return [m for m in model.modules() if isinstance(m, LoraLayer)]
