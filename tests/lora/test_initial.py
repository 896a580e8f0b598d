"""How adapters start."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lora.reference import (
    BY_NAME,
    KINDS,
    Case,
    Holder,
    adapter_tensors,
    assert_close,
    configured,
    delta,
    lengths,
    scaling_of,
    seeded,
    tensors_in,
    ungrouped,
)
from tests.lora.snapshot import unchanged
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import TargetError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask and attn_mask"),
]
FROM_MATRICES = ["orthogonal", "pissa", "pissa_niter_16", "olora"]
UNCHANGED_OUTPUT: list[Any] = [True, "gaussian", "eva", *FROM_MATRICES]


def _is_one_matrix(case: Case) -> bool:
    layer = case.layer()
    return getattr(layer, "groups", 1) == 1 and getattr(layer, "_qkv_same_embed_dim", True)


ONE_MATRIX = [case for case in KINDS if _is_one_matrix(case)]


def _started(case: Case, start: Any, dtype: torch.dtype = torch.float64, **options: Any) -> PeftModel:
    with seeded(3):
        return get_peft_model(Holder(case.layer(dtype)), configured(case, {"init_lora_weights": start, **options}))


def _factors(model: PeftModel) -> tuple[Tensor, Tensor]:
    tensors = adapter_tensors(model)
    a = tensors.get("lora_A.default.weight", tensors.get("lora_embedding_A.default"))
    b = tensors.get("lora_B.default.weight", tensors.get("lora_embedding_B.default"))
    return a.detach(), b.detach()  # type: ignore[union-attr]


def _weight(layer: nn.Module) -> Tensor:
    name = "in_proj_weight" if isinstance(layer, nn.MultiheadAttention) else "weight"
    return getattr(layer, name).detach()


def _matrix(case: Case, tensor: Tensor) -> Tensor:
    """A weight as (outputs, inputs)."""
    if isinstance(case.layer(), (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return tensor.transpose(0, 1).flatten(1)
    if isinstance(case.layer(), nn.Embedding) or "transformers" in case.name:
        return tensor.t()
    return tensor.flatten(1)


def _first_factor(case: Case, a: Tensor) -> Tensor:
    """The first factor as (rank, inputs)."""
    transposed = isinstance(case.layer(), (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    return (a.transpose(0, 1) if transposed else a).flatten(1)


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["plain", "dora", "rslora"])
@pytest.mark.parametrize("start", UNCHANGED_OUTPUT, ids=str)
@pytest.mark.parametrize("case", ONE_MATRIX, ids=str)
def test_start__leaves_the_output_as_it_was(case: Case, start: Any, options: dict[str, bool]) -> None:
    args, kwargs = case.call()
    expected = case.layer()(*args, **kwargs)
    assert_close(tensors_in(_started(case, start, **options)(*args, **kwargs)), tensors_in(expected))


@pytest.mark.parametrize("start", [True, "gaussian"], ids=str)
@pytest.mark.parametrize("case", [c for c in KINDS if not _is_one_matrix(c)], ids=str)
def test_random_start__leaves_the_output_of_every_kind_as_it_was(case: Case, start: Any) -> None:
    args, kwargs = case.call()
    expected = case.layer()(*args, **kwargs)
    assert_close(tensors_in(_started(case, start)(*args, **kwargs)), tensors_in(expected))


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_start_false__changes_the_output(case: Case) -> None:
    args, kwargs = case.call()
    expected = tensors_in(case.layer()(*args, **kwargs))
    ours = tensors_in(_started(case, False)(*args, **kwargs))
    assert not torch.allclose(ours[0], expected[0], rtol=1e-3)
    a, b = _factors(_started(case, False))
    assert a.ne(0).all()
    assert b.ne(0).all()


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_start_of_a_half_precision_base__stays_within_its_rounding(dtype: torch.dtype, start: str) -> None:
    base = nn.Linear(32, 24).to(dtype)
    weight = base.weight.detach().clone().float()
    model = get_peft_model(Holder(base), LoraConfig(r=4, target_modules=["layer"], init_lora_weights=start))
    layer = model.base_model.model.layer
    total = base.weight.float() + layer.update_matrix("default").detach()
    assert (total - weight).abs().max() <= torch.finfo(dtype).eps * weight.abs().max()
    assert layer.lora_A["default"].weight.dtype == torch.float32


def test_start_of_half_precision_factors__gives_up_what_they_hold() -> None:
    base = nn.Linear(32, 24).to(torch.bfloat16)
    weight = base.weight.detach().clone().float()
    config = LoraConfig(r=4, target_modules=["layer"], init_lora_weights="pissa")
    layer = get_peft_model(Holder(base), config, autocast_adapter_dtype=False).base_model.model.layer
    a, b = (layer.get_submodule(f"lora_{f}.default").weight.detach() for f in "AB")
    assert a.dtype == b.dtype == torch.bfloat16
    total = base.weight.float() + 8 / 4 * b.float() @ a.float()
    assert (total - weight).abs().max() <= torch.finfo(torch.bfloat16).eps * weight.abs().max()


# --- factors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in KINDS if c.name != "embedding"], ids=str)
def test_default_start__is_kaiming_uniform_and_zero(case: Case) -> None:
    a, b = _factors(_started(case, True))
    assert not b.any()
    fan_in = a[0].numel() if a.dim() == 2 else a.shape[1] * math.prod(a.shape[2:])
    bound = 1 / math.sqrt(fan_in)
    assert a.abs().max() <= bound
    assert a.abs().max() > 0.5 * bound


def test_default_start_of_an_embedding__is_zero_and_normal() -> None:
    base = nn.Embedding(50, 200)
    model = get_peft_model(Holder(base), LoraConfig(r=8, target_modules=["layer"]))
    a, b = _factors(model)
    assert not a.any()
    assert abs(b.mean()) < 5 / b.numel() ** 0.5
    assert 0.95 < b.std() < 1.05


def test_gaussian_start__has_a_spread_of_one_over_the_rank() -> None:
    model = get_peft_model(
        Holder(nn.Linear(500, 10)), LoraConfig(r=8, target_modules=["layer"], init_lora_weights="gaussian")
    )
    a, b = _factors(model)
    assert not b.any()
    assert abs(a.std() * 8 - 1) < 0.06
    assert abs(a.mean()) < 5 / 8 / a.numel() ** 0.5


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}], ids=["plain", "rslora"])
@pytest.mark.parametrize("case", ONE_MATRIX, ids=str)
def test_pissa__takes_the_largest_singular_directions(case: Case, options: dict[str, bool]) -> None:
    model = _started(case, "pissa", **options)
    weight, config = _matrix(case, _weight(case.layer())), model.peft_config["default"]
    a, b = _factors(model)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    principal = u[:, :2] * s[:2] @ vh[:2]
    left, right, scaling = b.flatten(1), _first_factor(case, a), scaling_of(config)
    assert_close(scaling * left @ right, principal)
    # The singular values are shared evenly, and the directions do not mix.
    assert_close(left.t() @ left, (s[:2] / scaling).diag())
    assert_close(right @ right.t(), (s[:2] / scaling).diag())
    layer = model.base_model.model.layer.base_layer
    assert_close(_matrix(case, _weight(layer)), weight - principal)


def test_pissa_niter__comes_close_to_pissa() -> None:
    case = BY_NAME["linear"]
    exact, fast = _started(case, "pissa"), _started(case, "pissa_niter_40")
    updates = [delta(case.layer(), *_factors(m), 7 / 2) for m in (exact, fast)]
    assert (updates[0] - updates[1]).norm() < 1e-4 * updates[0].norm()


@pytest.mark.parametrize("case", ONE_MATRIX, ids=str)
def test_olora__takes_orthonormal_directions(case: Case) -> None:
    model = _started(case, "olora")
    weight = _matrix(case, _weight(case.layer()))
    a, b = _factors(model)
    left, right = b.flatten(1), _first_factor(case, a)
    assert_close(left.t() @ left, torch.eye(2, dtype=torch.float64))
    # The first columns of Q span the first columns of the weight.
    assert_close(left @ left.t() @ weight[:, :2], weight[:, :2])
    assert_close(right, left.t() @ weight)
    layer = model.base_model.model.layer.base_layer
    assert_close(_matrix(case, _weight(layer)), weight - 7 / 2 * left @ right)


@pytest.mark.parametrize("r", [2, 6])
@pytest.mark.parametrize("case", ONE_MATRIX, ids=str)
def test_orthogonal__factors_have_half_their_rank_and_no_product(case: Case, r: int) -> None:
    model = _started(case, "orthogonal", r=r)
    a, b = _factors(model)
    left, right = b.flatten(1), _first_factor(case, a)
    assert (left @ right).abs().max() < 1e-12 * left.norm() * right.norm()
    assert torch.linalg.matrix_rank(left) == min(r // 2, *left.shape)
    assert torch.linalg.matrix_rank(right) == min(r // 2, *right.shape)
    layer = model.base_model.model.layer.base_layer
    assert torch.equal(_weight(layer), _weight(case.layer()))


@pytest.mark.parametrize("case", [c for c in KINDS if c.name != "embedding"], ids=str)
def test_bias_of_the_second_factor__starts_at_zero(case: Case) -> None:
    tensors = adapter_tensors(_started(case, True, lora_bias=True))
    assert not tensors["lora_B.default.bias"].any()


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_dora__starts_with_the_lengths_of_the_weight(case: Case) -> None:
    model = _started(case, True, use_dora=True)
    tensors = adapter_tensors(model)
    layer = case.layer()
    if isinstance(layer, nn.MultiheadAttention):
        if layer.in_proj_weight is not None:
            rows = layer.in_proj_weight.norm(dim=1)
        else:
            rows = torch.cat([getattr(layer, f"{n}_proj_weight").norm(dim=1) for n in "qkv"])
        inner = tensors["base_layer.out_proj.lora_magnitude_vector.default.weight"]
        assert_close(inner, layer.out_proj.weight.norm(dim=1))
    else:
        rows = lengths(layer, ungrouped(layer).weight).flatten()
    assert_close(tensors["lora_magnitude_vector.default.weight"].flatten(), rows)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal", "pissa", "pissa_niter_1", "olora"], ids=str)
@pytest.mark.parametrize("name", ["linear", "conv2d_stride", "embedding", "attention"])
def test_trained_adapter__is_read_back_whatever_its_start(
    name: str, start: Any, low_cpu_mem_usage: bool, tmp_path: Path
) -> None:
    """PiSSA and OLoRA took part of the base with them: the base that the adapter is read into gives it up again."""
    case = BY_NAME[name]
    model = _started(case, start, torch.float32)
    with torch.no_grad():
        for parameter in adapter_tensors(model).values():
            parameter.add_(torch.randn_like(parameter) / 10)
    args, kwargs = case.call(torch.float32)
    model.save_pretrained(tmp_path)
    torch.manual_seed(1234)
    fresh = Holder(case.layer(torch.float32))
    loaded = PeftModel.from_pretrained(fresh, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    torch.testing.assert_close(tensors_in(loaded(*args, **kwargs)), tensors_in(model(*args, **kwargs)), rtol=0, atol=0)


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal", "pissa_niter_2"], ids=str)
def test_start__repeats_with_the_seed(start: Any) -> None:
    case = BY_NAME["conv2d_stride"]
    first, second = _factors(_started(case, start)), _factors(_started(case, start))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("start", FROM_MATRICES)
@pytest.mark.parametrize("name", ["conv2d_depthwise", "attention_separate"])
def test_start_from_one_matrix__where_there_is_none_is_refused(name: str, start: str) -> None:
    case = BY_NAME[name]
    model = Holder(case.layer())
    config = configured(case, {"init_lora_weights": start})
    with unchanged(model, random=False), pytest.raises(TargetError, match=f"layer: .*{start}.* one matrix"):
        get_peft_model(model, config)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_2", "olora"])
def test_start_with_more_directions_than_there_are__is_refused(start: str) -> None:
    model = Holder(nn.Linear(5, 6))
    config = LoraConfig(r=6, target_modules=["layer"], init_lora_weights=start)
    with unchanged(model, random=False), pytest.raises(TargetError, match=r"6 directions out of a \(6, 5\) matrix"):
        get_peft_model(model, config)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_start_from_weights_that_are_not_finite__is_refused(start: str) -> None:
    model = Holder(nn.Linear(5, 6))
    with torch.no_grad():
        model.layer.weight[0, 0] = float("inf")
    with unchanged(model, random=False), pytest.raises(TargetError, match="not all finite"):
        get_peft_model(model, LoraConfig(r=2, target_modules=["layer"], init_lora_weights=start))


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("case", ONE_MATRIX, ids=str)
def test_merging_and_taking_out__of_such_a_start(case: Case, start: str) -> None:
    """Merged, the base is what it was."""
    plain = _started(case, start).merge_and_unload().layer
    assert_close(_weight(plain), _weight(case.layer()))
