"""Gradient checkpointing runs layers twice and must give what running them once gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.lora.models import by_hand, zoo
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lumora import LoraConfig, PeftModel, get_peft_model

DROPOUT = pytest.mark.parametrize("dropout", [0.0, 0.4], ids=["plain", "dropout"])
REENTRANT = pytest.mark.parametrize("reentrant", [False, True], ids=["not_reentrant", "reentrant"])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.mix = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(torch.relu(self.conv(x)))
        y = self.fc(x).flatten(1, 2)
        return x + self.attention(y, y, y)[0].view_as(x)


class Stack(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return x


def _gradients(model: PeftModel, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(7)
    model.zero_grad()
    output = model(x)
    by_hand.scalar(output).backward()
    return by_hand.tensors(output)[0].detach(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None
    }


def _assert_equal(ours: tuple[Tensor, dict[str, Tensor]], theirs: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=0)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        torch.testing.assert_close(gradient, theirs[1][name], rtol=1e-6, atol=1e-7, msg=name)


@REENTRANT
@DROPOUT
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_checkpointed_blocks__have_the_same_gradients(dora: bool, dropout: float, reentrant: bool) -> None:
    found = []
    for how in (None, reentrant):
        torch.manual_seed(0)
        config = LoraConfig(r=2, target_modules=["conv", "mix", "fc", "attention"], lora_dropout=dropout, use_dora=dora)
        model = get_peft_model(Stack(how), config).train()
        by_hand.draw(model)
        found.append(_gradients(model, torch.linspace(-1, 1, 2 * 4 * 5 * 6).view(2, 4, 5, 6).requires_grad_()))
    assert len(found[0][1]) == (30 if dora else 20)
    _assert_equal(found[1], found[0])


def _vit(dropout: float, **checkpointing: Any) -> PeftModel:
    base: Any = zoo.BY_NAME["vit"].base(torch.float32)
    if checkpointing:
        base.activation_checkpointing_enable(checkpointing)
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "fc1"], lora_dropout=dropout)).train()
    by_hand.draw(model)
    return model


@REENTRANT
@DROPOUT
def test_transformers__checkpointing_before_adapting(dropout: float, reentrant: bool) -> None:
    x = zoo.BY_NAME["vit"].sample(torch.float32)[0][0]
    expected = _gradients(_vit(dropout), x)
    assert len(expected[1]) == 8
    _assert_equal(_gradients(_vit(dropout, use_reentrant=reentrant), x), expected)


@REENTRANT
def test_transformers__checkpointing_after_adapting(reentrant: bool) -> None:
    x = zoo.BY_NAME["vit"].sample(torch.float32)[0][0]
    expected, model = _gradients(_vit(0.0), x), _vit(0.0)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    _assert_equal(_gradients(model, x), expected)


@pytest.mark.parametrize("name", ["timm_vit", "timm_swin", "timm_convnext"])
def test_timm__checkpointing(name: str) -> None:
    x = zoo.BY_NAME[name].sample(torch.float32)[0][0]
    models = [by_hand.adapted(zoo.BY_NAME[name], torch.float32, lora_dropout=0.3).train() for _ in range(2)]
    models[1].set_grad_checkpointing(True)
    _assert_equal(_gradients(models[1], x), _gradients(models[0], x))
