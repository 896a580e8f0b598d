from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lumora.errors import ConfigError
from lumora.lora import (
    LoraConfig,
    PeftModel,
    create_lorafa_optimizer,
    create_loraplus_optimizer,
    get_peft_model,
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.one = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.one(self.embed(x))))


def model_with(**config: Any) -> PeftModel:
    torch.manual_seed(0)
    config = {"r": 2, "target_modules": ["one"], "init_lora_weights": False, **config}
    return get_peft_model(Net(), LoraConfig(**config))


def rates(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Name of every trained parameter -> its rate and weight decay."""
    names = {id(p): n.removeprefix("base_model.model.") for n, p in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


def test_loraplus__trains_second_factors_faster() -> None:
    model = model_with(target_modules=["one", "embed"], modules_to_save=["head", "norm"], use_dora=True)
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=8.0, loraplus_lr_embedding=0.5, loraplus_weight_decay=0.1
    )
    assert rates(model, optimizer) == {
        "one.lora_A.default.weight": (0.01, 0.1),
        "one.lora_B.default.weight": (0.08, 0.1),
        "one.lora_magnitude_vector.default.weight": (0.08, 0.1),
        "embed.lora_embedding_A.default": (0.5, 0.1),
        "embed.lora_embedding_B.default": (0.5, 0.1),
        "embed.lora_magnitude_vector.default.weight": (0.08, 0.1),
        "head.modules_to_save.default.weight": (0.01, 0.1),
        "head.modules_to_save.default.bias": (0.08, 0.0),
        "norm.modules_to_save.default.weight": (0.08, 0.0),
        "norm.modules_to_save.default.bias": (0.08, 0.0),
    }


def test_loraplus__passes_the_optimizers_own_arguments_on() -> None:
    model = model_with(lora_bias=True, init_lora_weights=True)
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=2.0, weight_decay=0.3, eps=1e-5, betas=(0.8, 0.9)
    )
    assert rates(model, optimizer) == {
        "one.lora_A.default.weight": (0.01, 0.3),
        "one.lora_B.default.weight": (0.02, 0.3),
        "one.lora_B.default.bias": (0.02, 0.0),
    }
    assert all((g["eps"], g["betas"]) == (1e-5, (0.8, 0.9)) for g in optimizer.param_groups)


def test_loraplus__steps_each_factor_at_its_rate() -> None:
    model = model_with()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = create_loraplus_optimizer(model, torch.optim.SGD, lr=0.01, loraplus_lr_ratio=4.0)
    model(torch.arange(7)).square().sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    for name, gradient in gradients.items():
        rate = 0.04 if "lora_B" in name else 0.01
        torch.testing.assert_close(model.get_parameter(name), before[name] - rate * gradient)


def test_loraplus__leaves_frozen_parameters_out() -> None:
    model = model_with(inference_mode=True, modules_to_save=["head"])
    model.base_model.set_requires_grad("default")
    optimizer = create_loraplus_optimizer(model, torch.optim.SGD, lr=0.01, loraplus_lr_ratio=4.0)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        f"base_model.model.{name}" for name in rates(model, optimizer)
    }


def explicit_adamw(gradients: list[Tensor], start: Tensor, rate: float, decay: float) -> Tensor:
    """AdamW written out, with epsilon beside the uncorrected root as in the LoRA-FA paper's code."""
    m = v = torch.zeros_like(start)
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = rate * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        start = (start - step * m / (v.sqrt() + 1e-6)) * (1 - rate * decay)
    return start


LAYERS: dict[str, Any] = {
    "linear": (lambda: nn.Linear(6, 4), lambda: torch.randn(5, 6)),
    "convolution": (lambda: nn.Conv2d(3, 4, 3), lambda: torch.randn(2, 3, 5, 5)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), lambda: torch.randn(2, 4, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), lambda: torch.randn(2, 4, 5, 5)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_lorafa__steps_along_the_gradient_of_the_whole_update(kind: str) -> None:
    make, sample = LAYERS[kind]
    torch.manual_seed(0)
    base, x = make(), sample()
    groups = getattr(base, "groups", 1)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["0"], init_lora_weights=False)
    model = get_peft_model(nn.Sequential(base), config)
    optimizer = create_lorafa_optimizer(model, r=4, lora_alpha=6, lr=0.01, weight_decay=0.1)
    layer = model.get_base_model()[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    start, frozen, directions = b.detach().clone(), a.detach().clone(), []
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        parts = []
        ranks_first = a.transpose(0, 1) if kind == "transposed" else a
        for rows, gradient in zip(ranks_first.flatten(1).chunk(groups), b.grad.flatten(1).chunk(groups), strict=True):
            parts.append(gradient @ torch.linalg.inv(rows @ rows.t()) / 1.5**2)
        directions.append(torch.cat(parts).view(b.shape).detach())
        optimizer.step()
    torch.testing.assert_close(b.detach(), explicit_adamw(directions, start, 0.01, 0.1), rtol=1e-4, atol=1e-6)
    assert torch.equal(a, frozen)
    assert not a.requires_grad


def test_lorafa__trains_everything_else_with_adamw() -> None:
    model = model_with(modules_to_save=["head"], target_modules=["one", "embed"])
    create_lorafa_optimizer(model, r=2, lora_alpha=8, lr=0.01)
    assert {n.removeprefix("base_model.model.") for n, p in model.named_parameters() if p.requires_grad} == {
        "one.lora_B.default.weight",
        "embed.lora_embedding_A.default",
        "embed.lora_embedding_B.default",
        "head.modules_to_save.default.weight",
        "head.modules_to_save.default.bias",
    }
    optimizer = create_lorafa_optimizer(model, r=2, lora_alpha=8, lr=0.01, weight_decay=0.2)
    bias = model.get_base_model().head.modules_to_save["default"].bias
    start, gradients = bias.detach().clone(), []
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.arange(7)).square().mean().backward()
        gradients.append(bias.grad.clone())
        optimizer.step()
    torch.testing.assert_close(bias.detach(), explicit_adamw(gradients, start, 0.01, 0.2), rtol=1e-5, atol=1e-7)


def test_lorafa__goes_on_where_its_state_was_saved() -> None:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model(torch.arange(7)).square().mean()
            loss.backward()
            return loss

        return float(optimizer.step(closure))

    model = model_with()
    optimizer = create_lorafa_optimizer(model, r=2, lora_alpha=8, lr=0.01)
    losses = [step(model, optimizer) for _ in range(3)]
    assert losses[2] < losses[0]
    again = copy.deepcopy(model)
    restored = create_lorafa_optimizer(again, r=2, lora_alpha=8, lr=0.5)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(2):
        assert step(again, restored) == step(model, optimizer)


def test_lorafa__refuses_what_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="use_rslora"):
        create_lorafa_optimizer(model_with(), r=2, lora_alpha=8, lr=0.1, use_rslora=True)
    with pytest.raises(ConfigError, match="lr=-1"):
        create_lorafa_optimizer(model_with(), r=2, lora_alpha=8, lr=-1)
    with pytest.raises(ConfigError, match="no active adapter"):
        create_lorafa_optimizer(Net(), r=2, lora_alpha=8, lr=0.1)
