"""Every kind of layer against torch's own layer with the adapters written into its weight."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lora.reference import (
    BY_NAME,
    CASES,
    KINDS,
    MODES,
    PLAIN,
    Case,
    Holder,
    Mode,
    adapted,
    adapter_tensors,
    assert_close,
    changes,
    configured,
    explicit,
    scaling_of,
    tensors_in,
    weighted_sum,
)
from torch import Tensor, nn

from lumora import PeftModel, get_peft_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask and attn_mask"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]
TWICE = next(mode for mode in MODES if mode.name == "mixed")


def _fitting(cases: list[Case], modes: tuple[Mode, ...]) -> list[object]:
    return [pytest.param(c, m, id=f"{c}-{m}") for c in cases for m in modes if m.fits(c)]


def _base_biases(model: nn.Module) -> dict[str, Tensor]:
    """The base's biases, under the names that they have in the base."""
    start = "base_model.model.layer."
    names = {n.removeprefix(start).replace("base_layer.", ""): n for n, _ in model.named_parameters()}
    return {short: model.get_parameter(n) for short, n in names.items() if "bias" in short and "lora_" not in short}


def _same_bits(ours: object, theirs: object) -> None:
    torch.testing.assert_close(tensors_in(ours), tensors_in(theirs), rtol=0, atol=0)


def _compare_with_explicit(case: Case, mode: Mode, dtype: torch.dtype) -> None:
    model = adapted(case, mode, dtype)
    ours, biases = adapter_tensors(model), _base_biases(model)
    for bias in biases.values():
        bias.requires_grad_()
    theirs = {n: p.detach().clone().requires_grad_() for n, p in ours.items()}
    their_biases = {n: p.detach().clone().requires_grad_() for n, p in biases.items()}
    scalings = {n: scaling_of(c) for n, c in model.peft_config.items()}

    call, their_call = case.call(dtype), case.call(dtype)
    output = model(*call[0], **call[1])
    expected = explicit(case, theirs, scalings, their_biases, their_call)
    assert_close(tensors_in(output), tensors_in(expected), dtype)

    weighted_sum(output).backward()
    weighted_sum(expected).backward()
    for name, parameter in ours.items():
        assert_close(parameter.grad, theirs[name].grad, dtype)
    for name, bias in biases.items():
        assert_close(bias.grad, their_biases[name].grad, dtype)
    for x, y in zip(call[0], their_call[0], strict=True):
        if x.is_floating_point():
            assert_close(x.grad, y.grad, dtype)


@pytest.mark.parametrize(("case", "mode"), _fitting(CASES, MODES))
def test_layer__computes_and_differentiates_like_the_explicit_weight(case: Case, mode: Mode) -> None:
    _compare_with_explicit(case, mode, torch.float64)


@pytest.mark.parametrize(("case", "mode"), _fitting(CASES, (PLAIN,)) + _fitting(KINDS, (TWICE,)))
def test_layer__computes_and_differentiates_like_the_explicit_weight_in_32_bits(case: Case, mode: Mode) -> None:
    _compare_with_explicit(case, mode, torch.float32)


class _WithChanges(nn.Module):
    """A layer that computes with its weights and what adapters add to them, which for DoRA depends on the weights."""

    def __init__(self, layer: nn.Module, tensors: dict[str, Tensor], scalings: dict[str, float]) -> None:
        super().__init__()
        self.layer, self.tensors, self.scalings = layer, tensors, scalings

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        total = dict(self.layer.named_parameters())
        for name, scaling in self.scalings.items():
            for weight, amount in changes(self.layer, self.tensors, name, scaling).items():
                total[weight] = total[weight] + amount
        return torch.func.functional_call(self.layer, total, args, kwargs)


@pytest.mark.parametrize(("case", "mode"), _fitting([c for c in KINDS if c.mergeable], (PLAIN, TWICE)))
def test_base_that_trains_too__gets_the_explicit_weights_gradient(case: Case, mode: Mode) -> None:
    model = adapted(case, mode)
    start = "base_model.model.layer."
    base = {n.removeprefix(start): p for n, p in model.named_parameters() if "lora_" not in n}
    ours = {n.replace("base_layer.", ""): p.requires_grad_() for n, p in base.items()}
    theirs = {n: p.detach().clone().requires_grad_() for n, p in ours.items()}
    scalings = {n: scaling_of(c) for n, c in model.peft_config.items()}
    reference = _WithChanges(case.layer(), adapter_tensors(model), scalings)
    call = case.call()
    weighted_sum(model(*call[0], **call[1])).backward()
    inside = {f"layer.{n}": p for n, p in theirs.items()}
    weighted_sum(torch.func.functional_call(reference, inside, *call)).backward()
    for name, parameter in ours.items():
        assert_close(parameter.grad, theirs[name].grad)


@pytest.mark.parametrize("case", [c for c in CASES if "channels_last" in c.name], ids=str)
def test_channels_last__stays_channels_last(case: Case) -> None:
    (x,), _ = case.call()
    memory = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    expected = case.layer()(x)
    output = adapted(case)(x)
    assert expected.is_contiguous(memory_format=memory) == output.is_contiguous(memory_format=memory)


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_half_precision_base__comes_close_to_the_explicit_weight(case: Case) -> None:
    """The adapters stay in 32 bits and get their gradients there."""
    reference = adapted(case, PLAIN, torch.float32)
    model = adapted(case, PLAIN, torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = reference.get_parameter(name).detach().clone()
    args, kwargs = case.call(torch.bfloat16)
    output = tensors_in(model(*args, **kwargs))
    expected = tensors_in(reference(*(a.float() if a.is_floating_point() else a for a in args), **kwargs))
    for ours, theirs in zip(output, expected, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - theirs).abs().max() <= 0.05 * theirs.abs().max()
    weighted_sum(output).backward()
    for name, parameter in adapter_tensors(model).items():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["plain", "dora"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fresh_adapter__gives_the_bases_output(case: Case, options: dict[str, bool]) -> None:
    args, kwargs = case.call()
    expected = case.layer()(*args, **kwargs)
    model = get_peft_model(Holder(case.layer()), configured(case, options))
    assert_close(tensors_in(model(*args, **kwargs)), tensors_in(expected))


@pytest.mark.parametrize(("case", "mode"), _fitting(CASES, (TWICE,)))
def test_disable_adapter__gives_the_bases_output_bit_for_bit(case: Case, mode: Mode) -> None:
    args, kwargs = case.call()
    expected = case.layer()(*args, **kwargs)
    model = adapted(case, mode)
    adapted_output = model(*args, **kwargs)
    with model.disable_adapter():
        _same_bits(model(*args, **kwargs), expected)
    _same_bits(model(*args, **kwargs), adapted_output)


@pytest.mark.parametrize(("case", "mode"), _fitting(KINDS, MODES))
def test_train_and_eval__agree_without_dropout(case: Case, mode: Mode) -> None:
    model = adapted(case, mode)
    args, kwargs = case.call()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trained = model.train()(*args, **kwargs)
    _same_bits(model.eval()(*args, **kwargs), trained)
    with torch.no_grad():
        assert_close(tensors_in(model(*args, **kwargs)), tensors_in(trained))
    assert model.state_dict().keys() == before.keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_set_strength__scales_the_change_of_the_output(case: Case) -> None:
    model = adapted(case, PLAIN)
    args, kwargs = case.call()
    theirs = adapter_tensors(model)
    for strength in (0.0, 0.5, -2.0, 1.0):
        model.set_strength("default", strength)
        scaling = strength * scaling_of(model.peft_config["default"])
        expected = explicit(case, theirs, {"default": scaling}, {}, (args, kwargs))
        assert_close(tensors_in(model(*args, **kwargs)), tensors_in(expected))


@pytest.mark.parametrize(("case", "mode"), _fitting(KINDS, (TWICE,)))
def test_set_adapter__counts_exactly_the_named_adapters(case: Case, mode: Mode) -> None:
    model = adapted(case, mode)
    args, kwargs = case.call()
    theirs = adapter_tensors(model)
    for names in (["default"], ["second"], ["second", "default"], []):
        model.base_model.set_adapter(names)
        scalings = {n: scaling_of(model.peft_config[n]) for n in names}
        expected = explicit(case, theirs, scalings, {}, (args, kwargs))
        assert_close(tensors_in(model(*args, **kwargs)), tensors_in(expected))
        assert model.active_adapters == list(names)


@pytest.mark.parametrize(("case", "mode"), _fitting(KINDS, MODES[:4]))
def test_save_and_load__gives_the_same_output_bit_for_bit(case: Case, mode: Mode, tmp_path: Path) -> None:
    model = adapted(case, mode, torch.float32)
    args, kwargs = case.call(torch.float32)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Holder(case.layer(torch.float32)), tmp_path)
    _same_bits(loaded(*args, **kwargs), model(*args, **kwargs))


@pytest.mark.parametrize(("case", "mode"), _fitting(KINDS, (TWICE,)))
def test_deepcopy__is_independent(case: Case, mode: Mode) -> None:
    model = adapted(case, mode)
    args, kwargs = case.call()
    expected = model(*args, **kwargs)
    other = copy.deepcopy(model)
    _same_bits(other(*args, **kwargs), expected)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.set_strength("default", 3.0)
    other.delete_adapter("second")
    _same_bits(model(*args, **kwargs), expected)
    assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in model.parameters()}


@pytest.mark.parametrize(("case", "mode"), _fitting(KINDS, (PLAIN, TWICE)))
def test_functional_gradient__equals_backward(case: Case, mode: Mode) -> None:
    model = adapted(case, mode)
    args, kwargs = case.call()
    parameters = {n: p for n, p in model.named_parameters() if "lora_" in n}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return weighted_sum(torch.func.functional_call(model, values, args, kwargs))

    found = torch.func.grad(loss)({n: p.detach() for n, p in parameters.items()})
    loss(parameters).backward()
    for name, parameter in parameters.items():
        assert_close(found[name], parameter.grad)


@pytest.mark.parametrize("name", ["linear", "conv2d_few_positions", "conv2d_pointwise", "embedding"])
def test_vmap__gives_every_samples_own_gradient(name: str) -> None:
    model = adapted(BY_NAME[name], TWICE)
    (x,), _ = BY_NAME[name].call()
    x = torch.cat([x.detach()] * 3)
    x = torch.randn_like(x) if x.is_floating_point() else x
    parameters = {n: p.detach() for n, p in model.named_parameters() if "lora_" in n}

    def loss(values: dict[str, Tensor], one: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (one,)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for i, one in enumerate(x):
        model.zero_grad()
        model(one).square().sum().backward()
        for n in parameters:
            assert_close(found[n][i], model.get_parameter(n).grad)


@pytest.mark.parametrize(("case", "mode"), _fitting(KINDS, (PLAIN, TWICE)))
@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:FutureWarning")
def test_jit_trace__computes_the_same(case: Case, mode: Mode) -> None:
    model = adapted(case, mode).eval()
    args, kwargs = case.call()
    with torch.no_grad():
        expected = model(*args, **kwargs)
        traced = torch.jit.trace(model, example_inputs=args)
        assert_close(tensors_in(traced(*args)), tensors_in(expected))


@pytest.mark.parametrize("case", [c for c in KINDS if c.name != "embedding"], ids=str)
def test_forward_mode_derivative__agrees_with_backward(case: Case) -> None:
    model = adapted(case, PLAIN)
    args, kwargs = case.call()
    x = args[0]
    direction = torch.randn_like(x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, direction)
        output = weighted_sum(model(*(dual if a is x else a for a in args), **kwargs))
        along = torch.autograd.forward_ad.unpack_dual(output).tangent
    (gradient,) = torch.autograd.grad(weighted_sum(model(*args, **kwargs)), x)
    assert_close(along, (gradient * direction).sum())


@pytest.mark.parametrize("case", [c for c in KINDS if "attention" not in c.name], ids=str)
def test_empty_batch__gives_an_empty_output(case: Case) -> None:
    model = adapted(case, PLAIN)
    (x,), _ = case.call()
    x = x.detach()[:0].requires_grad_(x.is_floating_point())
    expected = case.layer()(x)
    output = model(x)
    assert output.shape == expected.shape
    output.sum().backward()
    assert all(not p.grad.any() for n, p in model.named_parameters() if "lora_" in n)
