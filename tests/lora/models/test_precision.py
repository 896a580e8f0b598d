"""Bases in half precision, adapters in single precision, with and without autocast."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tests.lora.models import by_hand, zoo
from tests.lora.models.zoo import Architecture
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model

HALVES = [torch.bfloat16, torch.float16]
COARSE = {torch.bfloat16: 0.06, torch.float16: 0.01}
ARCHITECTURES = [zoo.BY_NAME[n] for n in ("vit", "segformer", "timm_convnext", "torchvision_vit", "torchvision_swin")]

half = pytest.mark.parametrize("dtype", HALVES, ids=["bf16", "fp16"])
each = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)


def _adapted(architecture: Architecture, dtype: torch.dtype, **options: Any) -> PeftModel:
    """The same numbers in every precision: drawn in single precision, the base rounded to `dtype`."""
    torch.manual_seed(0)
    base = architecture.base(torch.float32).to(dtype)
    model = get_peft_model(
        base, LoraConfig(**{"r": 2, "target_modules": list(architecture.explicit), **options})
    ).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape) / 4)
    return model


def _run(model: PeftModel, x: Tensor, autocast: torch.dtype | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", autocast) if autocast else nullcontext():
        output = by_hand.tensors(model(x))[0]
    by_hand.scalar(output.float()).backward()
    return output.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def _joined(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([g.flatten().float() for g in gradients.values()])


def _own_error(architecture: Architecture, model: PeftModel, x: Tensor, dtype: torch.dtype, cast: bool) -> float:
    """How far off the gradients of the plain model with the adapted weights are in half precision."""
    base = architecture.base(torch.float32)
    weights = by_hand.weights(model.float(), base)
    plain: Any = by_hand.written(base, weights).train()
    for name in weights:
        plain.get_parameter(name).requires_grad_(True)
    _, exact = _run(plain, x)
    _, coarse = _run(plain.to(dtype), x.to(dtype)) if cast else _run(plain, x, dtype)
    return _off_by(_joined(coarse), _joined(exact))


def _off_by(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


@half
@each
def test_half_base__has_factors_and_gradients_in_single_precision(
    architecture: Architecture, dtype: torch.dtype
) -> None:
    x = architecture.sample(torch.float32)[0][0]
    model = _adapted(architecture, dtype)
    assert {p.dtype for n, p in model.named_parameters() if ".lora_" in n} == {torch.float32}
    assert {p.dtype for n, p in model.named_parameters() if ".lora_" not in n} == {dtype}
    rounded = _adapted(architecture, torch.float32)
    with torch.no_grad():  # the reference: the same rounded base, computed in single precision
        for (_, to), (_, source) in zip(rounded.named_parameters(), model.named_parameters(), strict=True):
            to.copy_(source)
    output, gradients = _run(model, x.to(dtype))
    expected, wanted = _run(rounded, x.to(dtype).float())
    assert output.dtype == dtype
    assert _off_by(output, expected) < COARSE[dtype]
    assert gradients.keys() == wanted.keys()
    assert {g.dtype for g in gradients.values()} == {torch.float32}
    allowed = COARSE[dtype] + 2 * _own_error(architecture, rounded, x, dtype, cast=True)
    assert _off_by(_joined(gradients), _joined(wanted)) < allowed


@half
@each
def test_autocast__is_near_single_precision_and_keeps_its_gradients(
    architecture: Architecture, dtype: torch.dtype
) -> None:
    x = architecture.sample(torch.float32)[0][0]
    model = _adapted(architecture, torch.float32)
    expected, wanted = _run(model, x)
    output, gradients = _run(model, x, dtype)
    with torch.autocast("cpu", dtype), torch.no_grad():
        assert output.dtype == by_hand.tensors(model.get_base_model()(x))[0].dtype
    assert _off_by(output, expected) < COARSE[dtype]
    assert {g.dtype for g in gradients.values()} == {torch.float32}
    allowed = COARSE[dtype] + 2 * _own_error(architecture, model, x, dtype, cast=False)
    assert _off_by(_joined(gradients), _joined(wanted)) < allowed


class Layers(nn.Module):
    """Layers whose casting is the same by hand: a linear layer, a convolution, a pointwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.mix = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.mix(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@half
def test_autocast__is_casting_the_layers_and_their_inputs(dtype: torch.dtype, dora: bool) -> None:
    architecture = Architecture("layers", Layers, ())
    options: dict[str, Any] = {"target_modules": ["conv", "mix", "fc"], "use_dora": dora}
    model = _adapted(architecture, torch.float32, **options)
    cast = _adapted(architecture, dtype, **options)
    with torch.no_grad():
        for (_, to), (_, source) in zip(cast.named_parameters(), model.named_parameters(), strict=True):
            to.copy_(source)
    x = torch.randn(2, 3, 6, 6)
    by_autocast, _ = _run(model, x, dtype)
    by_casting, _ = _run(cast, x.to(dtype))
    assert by_autocast.dtype == by_casting.dtype == dtype
    assert _off_by(by_autocast, by_casting) < 2 * torch.finfo(dtype).eps


@half
def test_half_base__keeps_factors_in_half_when_asked(dtype: torch.dtype) -> None:
    base = zoo.BY_NAME["timm_vit"].base(torch.float32).to(dtype)
    model = get_peft_model(base, LoraConfig(r=2), autocast_adapter_dtype=False)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model(torch.randn(1, 3, 32, 32).to(dtype)).dtype == dtype


@half
def test_half_base__saves_and_loads_in_single_precision(dtype: torch.dtype, tmp_path: Any) -> None:
    architecture = zoo.BY_NAME["timm_vit"]
    model = _adapted(architecture, dtype).eval()
    x = architecture.sample(dtype)[0][0]
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(architecture.base(torch.float32).to(dtype), tmp_path).eval()
    assert {p.dtype for n, p in loaded.named_parameters() if ".lora_" in n} == {torch.float32}
    with torch.no_grad():
        by_hand.assert_same(loaded(x), model(x))


@half
def test_half_base__merges_and_unmerges_bit_for_bit(dtype: torch.dtype) -> None:
    architecture = zoo.BY_NAME["timm_vit"]
    model, x = _adapted(architecture, dtype).eval(), architecture.sample(dtype)[0][0]
    before = {n: p.clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        expected = model(x)
        model.merge_adapter()
        assert _off_by(model(x), expected) < 2 * COARSE[dtype]
        model.unmerge_adapter()
        by_hand.assert_same(model(x), expected)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_to__moves_a_whole_model_to_another_precision_and_back() -> None:
    model = by_hand.adapted(zoo.BY_NAME["timm_vit"], torch.float32)
    x = zoo.BY_NAME["timm_vit"].sample(torch.float32)[0][0]
    with torch.no_grad():
        expected = model(x)
        assert model.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
        assert _off_by(model.to(torch.float64)(x.double()), expected) < COARSE[torch.bfloat16]
