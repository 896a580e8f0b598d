"""`nn.MultiheadAttention`, alone and in torch's transformer layers, which may pass by its forward."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from tests.lora.reference import (
    BY_NAME,
    Holder,
    adapted,
    adapter_tensors,
    assert_close,
    draw,
    seeded,
    tensors_in,
    weighted_sum,
)
from torch import Tensor, nn

from lumora import LoraConfig, get_peft_model
from lumora.lora.dropout import keep_mask
from lumora.lora.layers import LoraLayer

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")
P, SCALING = 0.4, 7 / 2


def _mask(like: Tensor) -> Tensor:
    return keep_mask(like, P).double() / (1 - P)


@pytest.mark.parametrize("name", ["attention_batch_first", "attention_memory_batch_first"])
def test_dropout__drops_the_inputs_of_both_projections(name: str) -> None:
    """One mask where queries, keys and values are one tensor and one product, else one for each; then the output's."""
    case = BY_NAME[name]
    model = adapted(case, lora_dropout=P).train()
    ours = adapter_tensors(model)
    theirs = {n: p.detach().clone().requires_grad_() for n, p in ours.items()}
    args, _ = case.call()
    their_args, _ = case.call()
    with seeded(5):
        y, weights = model(*args)

    layer, (a, b) = case.layer().requires_grad_(False), (theirs[f"lora_{f}.default.weight"] for f in "AB")
    with seeded(5):
        together = their_args[0] is their_args[1]
        dropped = [_mask(their_args[0]) * their_args[0]] * 3 if together else [_mask(x) * x for x in their_args]
        q, k, v = (
            (x @ w.t() + bias + SCALING * x_ @ a.t() @ b_.t()).unflatten(-1, (2, 2))
            for x, x_, w, bias, b_ in zip(
                their_args, dropped, layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), b.chunk(3), strict=True
            )
        )
        attention = (torch.einsum("blhd,bshd->bhls", q, k) / math.sqrt(2)).softmax(-1)
        h = torch.einsum("bhls,bshd->blhd", attention, v).flatten(2)
        out_a, out_b = (theirs[f"base_layer.out_proj.lora_{f}.default.weight"] for f in "AB")
        expected = layer.out_proj(h) + SCALING * (_mask(h) * h) @ out_a.t() @ out_b.t()
    assert_close(y, expected)
    assert_close(weights, attention.mean(1))
    weighted_sum(y).backward()
    weighted_sum(expected).backward()
    for n, p in ours.items():
        assert_close(p.grad, theirs[n].grad)
    for x, x_ in zip(args, their_args, strict=True):
        assert_close(x.grad, x_.grad)


@pytest.mark.parametrize("name", ["attention", "attention_batch_first", "attention_separate"])
def test_attentions_own_dropout__is_torchs(name: str) -> None:
    """With the same seed, the same attention weights fall away."""
    case = BY_NAME[name]
    model = adapted(case).train()
    model.base_model.model.layer.base_layer.dropout = 0.5
    args, _ = case.call()
    with seeded(6):
        output = model(*args)
    plain = model.merge_and_unload().layer
    assert type(plain) is nn.MultiheadAttention
    with seeded(6):
        expected = plain(*args)
    assert (expected[1] == 0).any()
    assert_close(output, expected)


def test_causal_hint__without_a_mask_is_refused_as_torch_does() -> None:
    case = BY_NAME["attention"]
    args, _ = case.call()
    for model in (Holder(case.layer()), adapted(case)):
        with pytest.raises(RuntimeError, match="attn_mask"):
            model(*args, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_query_that_may_look_at_nothing__gives_what_torch_gives(need_weights: bool) -> None:
    case = BY_NAME["attention_batch_first"]
    model = adapted(case)
    args, _ = case.call()
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[1] = True
    output = model(*args, attn_mask=mask, need_weights=need_weights)
    expected = model.merge_and_unload()(*args, attn_mask=mask, need_weights=need_weights)
    torch.testing.assert_close(tensors_in(output), tensors_in(expected), rtol=1e-9, atol=1e-9, equal_nan=True)


def test_deepcopy__runs_its_own_hooks_and_not_the_originals() -> None:
    case = BY_NAME["attention"]
    model = adapted(case)
    calls: list[str] = []
    model.base_model.model.layer.base_layer.register_forward_hook(lambda *_: calls.append("both"))
    other = copy.deepcopy(model)
    other.base_model.model.layer.base_layer.register_forward_hook(lambda *_: calls.append("copy"))
    args, _ = case.call()
    other(*args)
    assert calls == ["both", "copy"]
    calls.clear()
    model(*args)
    assert calls == ["both"]


# --- torch's transformer layers --------------------------------------------------------------------------------------


def _encoder(norm_first: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.TransformerEncoder(layer, 2)


TARGETS = [["self_attn"], ["linear1", "linear2"], ["layers.1.linear1"], ["layers.0.self_attn", "layers.1.linear2"]]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("padding", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["norm_last", "norm_first"])
@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_transformer_encoder__counts_adapters_without_gradient_too(
    targets: list[str], norm_first: bool, padding: bool
) -> None:
    """torch's native path reads the weights and would pass over every adapter in eval mode without gradient."""
    base = _encoder(norm_first)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=targets))
    draw(model)
    x = torch.randn(3, 5, 8)
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]]) if padding else None
    seen = ~mask if mask is not None else torch.ones(3, 5, dtype=torch.bool)
    expected = model.train()(x, src_key_padding_mask=mask)[seen]
    model.eval()
    torch.testing.assert_close(model(x, src_key_padding_mask=mask)[seen], expected, rtol=1e-4, atol=1e-4)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(model(x, src_key_padding_mask=mask)[seen], expected, rtol=1e-4, atol=1e-4)
    model.merge_adapter()
    with torch.no_grad():
        torch.testing.assert_close(model(x, src_key_padding_mask=mask)[seen], expected, rtol=1e-4, atol=1e-4)
        plain = model.merge_and_unload()
        torch.testing.assert_close(plain(x, src_key_padding_mask=mask)[seen], expected, rtol=1e-4, atol=1e-4)


def test_transformer_encoder__has_its_native_path_back_after_unload() -> None:
    base = _encoder()
    before = {n: dict(vars(m)) for n, m in base.named_modules()}
    switches = ("activation_relu_or_gelu", "use_nested_tensor")
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["linear1", "self_attn"]))
    assert any(vars(m).get(s) != before[n].get(s) for n, m in base.named_modules() for s in switches if n in before)
    plain = model.unload()
    after = {n: dict(vars(m)) for n, m in plain.named_modules()}
    assert {n: {k for k in v if k != "training"} for n, v in after.items()} == {
        n: {k for k in v if k != "training"} for n, v in before.items()
    }
    assert all(after[n].get(s) == before[n].get(s) for n in before for s in switches)
    assert not any(isinstance(m, LoraLayer) for m in plain.modules())


def test_transformer_decoder_layer__cross_attention_equals_the_merged_model() -> None:
    base = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["self_attn", "multihead_attn", "linear2"]))
    draw(model)
    x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    for options in ({}, {"tgt_mask": causal, "tgt_is_causal": True}):
        expected = model(x, memory, **options)
        model.merge_adapter()
        torch.testing.assert_close(model(x, memory, **options), expected, rtol=1e-4, atol=1e-4)
        model.unmerge_adapter()
