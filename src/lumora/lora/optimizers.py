"""Optimizers made for adapters: LoRA+ (another rate for B) and LoRA-FA (A stays as it started)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lumora.errors import ConfigError
from lumora.lora import inject
from lumora.lora.layers import LoraLayer
from lumora.lora.padding import groups_of


def create_loraplus_optimizer(
    model: nn.Module,
    optimizer_cls: type[Optimizer],
    *,
    lr: float,
    loraplus_lr_ratio: float,
    loraplus_lr_embedding: float = 1e-6,
    loraplus_weight_decay: float | None = None,
    **kwargs: Any,
) -> Optimizer:
    """Make an optimizer that trains the second factors faster than the first (LoRA+, Hayou et al. 2024).

    Args:
        model: a model with adapters.
        optimizer_cls: `torch.optim.AdamW`, for example.
        lr: the rate of the first factors and of whole modules.
        loraplus_lr_ratio: how many times faster second factors, magnitudes, biases and norms learn; 1 or more.
        loraplus_lr_embedding: the rate of both factors of embeddings.
        loraplus_weight_decay: weight decay of everything but biases and norms; `weight_decay` when not given, else 0.
        kwargs: further arguments of the optimizer.
    """
    decay = kwargs.pop("weight_decay", 0.0) if loraplus_weight_decay is None else loraplus_weight_decay
    kwargs.pop("weight_decay", None)
    slow, fast, plain, embeddings = [list[nn.Parameter]() for _ in range(4)]
    for layer in inject.lora_layers(model):
        embeddings += [*layer.lora_embedding_A.values(), *layer.lora_embedding_B.values()]
        slow += [factor.weight for factor in layer.lora_A.values()]  # type: ignore[misc]
        fast += [factor.weight for factor in layer.lora_B.values()]  # type: ignore[misc]
        fast += layer.lora_magnitude_vector.parameters()
    ours = {id(p) for p in (*slow, *fast, *embeddings)}
    for parameter in model.parameters():
        if id(parameter) not in ours:
            (plain if parameter.dim() <= 1 else slow).append(parameter)
    groups: list[dict[str, Any]] = []
    for members, rate, its_decay in (
        (slow, lr, decay),
        (embeddings, loraplus_lr_embedding, decay),
        (fast, lr * loraplus_lr_ratio, decay),
        (plain, lr * loraplus_lr_ratio, 0.0),
    ):
        if trained := [p for p in members if p.requires_grad]:
            groups.append({"params": trained, "lr": rate, "weight_decay": its_decay})
    kwargs["lr"] = lr
    return optimizer_cls(groups, **kwargs)


def create_lorafa_optimizer(
    model: nn.Module,
    r: int,
    lora_alpha: float,
    lr: float,
    weight_decay: float = 0.0,
    use_rslora: bool | None = None,
) -> LoraFA:
    """Freeze the first factors and make an optimizer for the rest (LoRA-FA, Zhang et al. 2023).

    The first factors no longer need what their gradient would take: the layers' inputs.

    Args:
        model: a model with adapters.
        r: kept for PEFT's callers; each layer's own rank counts.
        lora_alpha: kept for PEFT's callers; each layer's own scaling counts.
        lr: the learning rate.
        weight_decay: AdamW's.
        use_rslora: kept for PEFT's callers; if given, it must be what the adapters use.
    """
    pairs: list[Pair] = []
    for layer in inject.lora_layers(model):
        for name in layer.active_adapters:
            if use_rslora is not None and layer.adapters[name].use_rslora != use_rslora:
                raise ConfigError(f"use_rslora={use_rslora} is not what adapter {name!r} was made with; leave it out.")
            if name in layer.lora_A:
                a, b = layer.factors(name)
                a.requires_grad_(False)
                pairs.append(Pair(a, b, layer, name))
    if not pairs:
        raise ConfigError(f"{type(model).__name__} has no active adapter with a first factor to freeze.")
    return LoraFA((p for p in model.parameters() if p.requires_grad), pairs, lr=lr, weight_decay=weight_decay)


class Pair(NamedTuple):
    """A frozen first factor and the second one, with where they lie."""

    a: Tensor
    b: Tensor
    layer: LoraLayer
    name: str


class LoraFA(Optimizer):
    """AdamW in which each second factor follows its gradient as the whole update would see it.

    With A frozen, the step of B whose `scaling * B A` comes closest to the gradient of the full weight is the gradient
    of B times the inverse of `A A^T`, over the squared scaling. That direction goes into AdamW's moments.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        pairs: Iterable[Pair],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or weight_decay < 0 or eps < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(
                f"lr={lr}, eps={eps} and weight_decay={weight_decay} must not be negative, betas={betas} in [0, 1)."
            )
        super().__init__(list(params), {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.pairs = {pair.b: pair for pair in pairs}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step; `closure` computes the loss anew when given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for parameter, group in self._with_gradients():
            gradient = parameter.grad
            assert gradient is not None
            if (pair := self.pairs.get(parameter)) is not None:
                gradient = projected(gradient, pair)
            self._adam_step(parameter, gradient, group)
        return loss

    def _with_gradients(self) -> Iterator[tuple[nn.Parameter, dict[str, Any]]]:
        return ((p, group) for group in self.param_groups for p in group["params"] if p.grad is not None)

    def _adam_step(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        beta1, beta2 = group["betas"]
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        rate = group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        parameter.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt().add_(group["eps"]), value=-rate)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])


def projected(gradient: Tensor, pair: Pair) -> Tensor:
    """The gradient of a second factor times the inverse of `A A^T`, over the squared scaling."""
    groups, scaling = groups_of(pair.layer), pair.layer.adapters[pair.name].scaling
    a = pair.layer.first_factor_view(pair.a).flatten(1).unflatten(0, (groups, -1))  # (groups, r / groups, in)
    g = gradient.flatten(1).unflatten(0, (groups, -1))  # (groups, out / groups, r / groups)
    wide = torch.promote_types(a.dtype, torch.float32)
    square = a.to(wide) @ a.to(wide).transpose(1, 2)
    inverse = torch.linalg.pinv(square, hermitian=True)
    return (g.to(wide) @ inverse / scaling**2).to(gradient).view(gradient.shape)
