"""The optimizer: who learns how fast, and its memory as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lumora.errors import CheckpointError
from lumora.training.trained import trained_parameters

_MEMORY = "optimizer."


@dataclass(frozen=True)
class Rates:
    """Learning rates, and how strongly weights are drawn to zero."""

    general: float
    """Of adapters, and of what was pretrained and is trained itself: norms, or the whole model in full fine-tuning."""
    head: float
    """Of the fresh head."""
    second_factors: float = 1.0
    """How many times faster second factors learn than first ones (LoRA+)."""
    weight_decay: float = 0.0


class Optimizer:
    """AdamW over everything that a model trains. Biases, norms and other vectors are not drawn to zero."""

    def __init__(self, model: nn.Module, heads: tuple[str, ...], rates: Rates) -> None:
        self.parameters = trained_parameters(model)
        self.general_rate = rates.general
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            decay = 0.0 if parameter.dim() <= 1 else rates.weight_decay
            groups.setdefault((_rate(name, heads, rates), decay), []).append(parameter)
        self.torch = torch.optim.AdamW(
            [{"params": members, "whole_rate": rate, "weight_decay": d} for (rate, d), members in groups.items()]
        )

    def set_factor(self, factor: float) -> None:
        """Let every parameter learn at `factor` of its rate from now on."""
        for group in self.torch.param_groups:
            group["lr"] = group["whole_rate"] * factor

    def forget(self) -> None:
        """Let go of what it remembers of each parameter."""
        self.torch.state.clear()

    def forget_gradients(self) -> None:
        """Let go of all gradients."""
        self.torch.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """What it remembers of each parameter."""
        return {
            f"{_MEMORY}{kind}.{name}": value
            for name, parameter in self.parameters.items()
            for kind, value in self.torch.state.get(parameter, {}).items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Remember what another one of the same model did."""
        memories: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            kind, name = key.removeprefix(_MEMORY).split(".", 1)
            memories.setdefault(name, {})[kind] = value
        if strangers := memories.keys() - self.parameters.keys():
            raise CheckpointError(
                f"The checkpoint's optimizer remembers {min(strangers)}, which this model does not train. It belongs "
                "to another recipe: start a new run."
            )
        for name, memory in memories.items():
            parameter = self.parameters[name]
            self.torch.state[parameter] = {
                kind: value.clone() if kind == "step" else value.to(parameter.device, copy=True)
                for kind, value in memory.items()
            }


def of_optimizer(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a checkpoint's tensors that `Optimizer.state` gave."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(_MEMORY)}


def _rate(name: str, heads: tuple[str, ...], rates: Rates) -> float:
    if ".lora_B." in name or ".lora_embedding_B." in name:
        return rates.general * rates.second_factors
    in_head = ".lora_" not in name and any(f".{head}." in f".{name}." for head in heads)
    return rates.head if in_head else rates.general
