"""What all kinds of layers share: dropout, hooks, switches and names."""

from __future__ import annotations

import inspect
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
    scaling_of,
    seeded,
    tensors_in,
    ungrouped,
    weighted_sum,
)
from torch import Tensor, nn

from lumora import LoraConfig, get_peft_model
from lumora.errors import AdapterError
from lumora.lora.dropout import keep_mask

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")
P = 0.4
DROPPED = tuple(mode for mode in MODES if mode.name in ("plain", "dora", "mixed"))
ONE_INPUT = [c for c in CASES if not c.name.startswith(("attention", "embedding"))]


def _fitting(cases: list[Case]) -> list[object]:
    return [pytest.param(c, m, id=f"{c}-{m}") for c in cases for m in DROPPED if m.fits(c)]


# --- dropout ---------------------------------------------------------------------------------------------------------
# It acts in front of the first factor: `W x + s B A (mask * x) / keep`. The tests draw the same masks again.


def _mask(like: Tensor) -> Tensor:
    return keep_mask(like, P).double() / (1 - P)


def _expected(case: Case, model: nn.Module, tensors: dict[str, Tensor], x: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """The base's output, and each adapter's change of the weight applied to its own dropped input."""
    layer = ungrouped(case.layer()).requires_grad_(False)
    y = layer(x, **kwargs)
    with seeded(5):
        for name, config in model.peft_config.items():
            change = changes(layer, tensors, name, scaling_of(config))
            if "bias" not in change and layer.bias is not None:
                change["bias"] = torch.zeros_like(layer.bias)
            if "bias" in change and layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros_like(change["bias"]))
            y = y + torch.func.functional_call(layer, change, (x * _mask(x),), kwargs)
    return y


@pytest.mark.parametrize(("case", "mode"), _fitting(ONE_INPUT))
def test_dropout__drops_the_input_of_the_first_factor(case: Case, mode: Mode) -> None:
    model = adapted(case, mode, lora_dropout=P)
    for name in mode.adapters[1:]:
        model.base_model.model.layer.lora_dropout[name] = nn.Dropout(P)
    model.train()
    ours = adapter_tensors(model)
    theirs = {n: p.detach().clone().requires_grad_() for n, p in ours.items()}
    (x,), kwargs = case.call()
    (their_x,), _ = case.call()
    with seeded(5):
        output = model(x, **kwargs)
    expected = _expected(case, model, theirs, their_x, kwargs)
    assert_close(output, expected)
    weighted_sum(output).backward()
    weighted_sum(expected).backward()
    assert_close(x.grad, their_x.grad)
    for name, parameter in ours.items():
        assert_close(parameter.grad, theirs[name].grad)


@pytest.mark.parametrize("name", ["embedding", "embedding_padding"])
def test_dropout__of_an_embedding_drops_what_the_first_factor_gives(name: str) -> None:
    case = BY_NAME[name]
    model = adapted(case, lora_dropout=P).train()
    ours = adapter_tensors(model)
    a, b = (ours[f"lora_embedding_{f}.default"].detach().clone().requires_grad_() for f in "AB")
    (ids,), _ = case.call()
    with seeded(5):
        output = model(ids)
    h = torch.nn.functional.one_hot(ids, 9).double() @ a.t()
    with seeded(5):
        h = h * _mask(h)
    expected = case.layer()(ids) + 7 / 2 * torch.einsum("...r,dr->...d", h, b)
    assert_close(output, expected)
    weighted_sum(output).backward()
    weighted_sum(expected).backward()
    padding = case.layer().padding_idx
    if padding is not None:
        a.grad[:, padding] = 0
    assert_close(ours["lora_embedding_A.default"].grad, a.grad)
    assert_close(ours["lora_embedding_B.default"].grad, b.grad)


@pytest.mark.parametrize("case", [BY_NAME["linear"], BY_NAME["conv2d_reflect"], BY_NAME["attention"]], ids=str)
@pytest.mark.parametrize("mode", [MODES[0], MODES[2]], ids=str)
def test_dropout__is_off_in_eval_mode(case: Case, mode: Mode) -> None:
    args, kwargs = case.call()
    with_dropout = adapted(case, mode, lora_dropout=P).eval()
    without = adapted(case, mode).eval()
    for ours, theirs in zip(
        tensors_in(with_dropout(*args, **kwargs)), tensors_in(without(*args, **kwargs)), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["linear", "linear_many_tokens", "conv2d_pointwise", "embedding"])
def test_dropout__expectation_is_the_output_without_it(name: str) -> None:
    case = BY_NAME[name]
    model = adapted(case, lora_dropout=P)
    args, _ = case.call()
    with torch.no_grad():
        expected = model.eval()(*args)
        model.train()
        samples = torch.stack([model(*args) for _ in range(2000)])
    error = (samples.mean(0) - expected).abs() / (samples.std(0) / 2000**0.5).clamp_min(1e-9)
    assert error.max() < 5


# --- hooks -----------------------------------------------------------------------------------------------------------


def _log_hooks(layer: nn.Module) -> list[str]:
    """Every kind of hook on a layer, each noting that it ran."""
    log: list[str] = []
    layer.register_forward_pre_hook(lambda *_: log.append("before"))
    layer.register_forward_pre_hook(lambda *_: log.append("before with kwargs"), with_kwargs=True)
    layer.register_forward_hook(lambda *_: log.append("after"))
    layer.register_full_backward_pre_hook(lambda *_: log.append("backward before"))
    layer.register_full_backward_hook(lambda *_: log.append("backward"))
    return log


ALL_HOOKS = ["before", "before with kwargs", "after", "backward before", "backward"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("case", "mode"), [pytest.param(c, m, id=f"{c}-{m}") for c in KINDS for m in DROPPED if c.name != "embedding"]
)
def test_hooks_of_the_base__fire_exactly_once(case: Case, mode: Mode, when: str) -> None:
    base = case.layer().requires_grad_(False)
    if when == "before":
        log = _log_hooks(base)
    model = get_peft_model(Holder(base), configured(case, {**mode.configs[0], "lora_dropout": P}))
    for name, options in zip(mode.adapters[1:], mode.configs[1:], strict=True):
        model.add_adapter(name, configured(case, options))
    model.base_model.set_adapter(list(mode.adapters))
    if when == "after":
        log = _log_hooks(base)
    model.train()
    args, kwargs = case.call()
    weighted_sum(model(*args, **kwargs)).backward()
    assert sorted(log) == sorted(ALL_HOOKS)


@pytest.mark.parametrize("case", [c for c in KINDS if "attention" not in c.name], ids=str)
def test_forward_hook_of_the_base__changes_what_the_base_gives(case: Case) -> None:
    """A hook that doubles the base's output leaves the adapter's own part as it is."""
    model = adapted(case)
    args, kwargs = case.call()
    base = case.layer()(*args, **kwargs)
    expected = model(*args, **kwargs) + base
    model.base_model.model.layer.base_layer.register_forward_hook(lambda _, __, y: 2 * y)
    assert_close(model(*args, **kwargs), expected)


def test_forward_hook_of_the_base__does_not_reach_the_direction_of_dora() -> None:
    case = BY_NAME["linear"]
    model = adapted(case, MODES[2])
    args, kwargs = case.call()
    expected = model(*args, **kwargs) + case.layer()(*args, **kwargs)
    model.base_model.model.layer.base_layer.register_forward_hook(lambda _, __, y: 2 * y)
    assert_close(model(*args, **kwargs), expected)


# --- names and switches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_rename__changes_the_name_and_nothing_else(case: Case) -> None:
    model = adapted(case, MODES[-1])
    args, kwargs = case.call()
    before = model(*args, **kwargs)
    tensors = {n: p.clone() for n, p in adapter_tensors(model).items()}
    model.base_model.rename_adapter("default", "other")
    for ours, theirs in zip(tensors_in(model(*args, **kwargs)), tensors_in(before), strict=True):
        assert torch.equal(ours, theirs)
    renamed = {n.replace(".default", ".other"): p for n, p in tensors.items()}
    assert adapter_tensors(model).keys() == renamed.keys()
    assert all(torch.equal(p, renamed[n]) for n, p in adapter_tensors(model).items())
    assert model.active_adapters == ["other", "second"]
    model.base_model.rename_adapter("other", "default")
    assert adapter_tensors(model).keys() == tensors.keys()


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_delete__leaves_the_other_adapter_alone(case: Case) -> None:
    model = adapted(case, MODES[-1])
    args, kwargs = case.call()
    model.set_adapter("second")
    expected = model(*args, **kwargs)
    model.delete_adapter("default")
    for ours, theirs in zip(tensors_in(model(*args, **kwargs)), tensors_in(expected), strict=True):
        assert torch.equal(ours, theirs)
    assert list(model.peft_config) == ["second"]
    assert not any("default" in n for n in model.state_dict())


def test_delete__of_the_last_adapter_gives_the_base_back() -> None:
    case = BY_NAME["linear"]
    model = adapted(case)
    args, _ = case.call()
    model.delete_adapter("default")
    assert torch.equal(model(*args), case.layer()(*args))


def test_delete__of_the_active_adapter_activates_the_first_that_remains() -> None:
    model = adapted(BY_NAME["linear"], MODES[-1])
    model.set_adapter("default")
    with pytest.warns(match="'second' is now"):
        model.delete_adapter("default")
    assert model.active_adapters == ["second"]


@pytest.mark.parametrize("verb", ["delete_adapter", "set_adapter"])
def test_unknown_name__is_an_error_that_lists_the_known(verb: str) -> None:
    model = adapted(BY_NAME["linear"], MODES[-1])
    with pytest.raises(AdapterError, match=r"'third'.*default.*second"):
        getattr(model, verb)("third")


def test_set_adapter__trains_exactly_the_named() -> None:
    model = adapted(BY_NAME["linear"], MODES[-1])
    model.base_model.set_adapter(["second"])
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if ".second" in n}
    model.set_adapter("default", inference_mode=True)
    assert not any(p.requires_grad for p in model.parameters())


def test_scale_layer__and_unscale_layer_multiply_and_divide() -> None:
    layer = adapted(BY_NAME["linear"]).base_model.model.layer
    start = layer.scaling["default"]
    assert start == 7 / 2
    layer.scale_layer(3.0)
    layer.scale_layer(0.5)
    assert layer.scaling["default"] == pytest.approx(1.5 * start)
    layer.unscale_layer(3.0)
    assert layer.scaling["default"] == pytest.approx(0.5 * start)
    layer.unscale_layer()
    assert layer.scaling["default"] == start
    layer.set_scale("default", 2.0)
    assert layer.scaling["default"] == 2 * start
    layer.set_scale("elsewhere", 2.0)


def test_layer__answers_what_users_of_peft_ask() -> None:
    base = nn.Linear(5, 6)
    model = get_peft_model(Holder(base), LoraConfig(r=2, lora_alpha=3, target_modules=["layer"], use_dora=True))
    layer = model.base_model.model.layer
    assert layer.base_layer is base
    assert layer.get_base_layer() is base
    assert layer.weight is base.weight
    assert layer.bias is base.bias
    assert (layer.in_features, layer.out_features) == (5, 6)
    assert (dict(layer.r), dict(layer.lora_alpha), dict(layer.scaling)) == (
        {"default": 2},
        {"default": 3},
        {"default": 1.5},
    )
    assert dict(layer.use_dora) == {"default": True}
    assert layer.active_adapters == ["default"]
    assert layer.active_adapter == "default"
    assert not layer.merged
    assert layer.merged_adapters == []
    assert not layer.disable_adapters
    assert isinstance(layer.lora_dropout["default"], nn.Identity)
    assert repr(layer).startswith("lora.Linear(")
    with pytest.raises(TypeError):
        layer.r["default"] = 5
    with pytest.raises(AttributeError):
        _ = layer.nothing_of_that_name


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_layer__takes_its_arguments_by_the_bases_names(case: Case) -> None:
    args, kwargs = case.call()
    names = list(inspect.signature(type(case.layer()).forward).parameters)[1:]
    named = dict(zip(names, args, strict=False))
    for mode in (PLAIN, MODES[-1]):
        model = adapted(case, mode)
        expected = tensors_in(model(*args, **kwargs))
        assert_close(tensors_in(model(**named, **kwargs)), expected)
        with model.disable_adapter():
            model(**named, **kwargs)


def test_sparse_embedding__gives_its_adapter_dense_gradients() -> None:
    base = nn.Embedding(9, 5, sparse=True)
    model = get_peft_model(Holder(base), LoraConfig(r=2, target_modules=["layer"], init_lora_weights=False))
    model(torch.tensor([[1, 3], [3, 8]])).sum().backward()
    for parameter in adapter_tensors(model).values():
        assert parameter.grad is not None
        assert not parameter.grad.is_sparse
        assert parameter.grad.any()


def test_half_precision_base__keeps_the_adapter_and_its_lengths_in_32_bits() -> None:
    base = nn.Linear(16, 8).to(torch.bfloat16)
    model = get_peft_model(Holder(base), LoraConfig(r=2, target_modules=["layer"], use_dora=True))
    layer = model.base_model.model.layer
    assert {p.dtype for n, p in model.named_parameters() if "lora_" in n} == {torch.float32}
    exact = base.weight.double().square().sum(1).sqrt()
    torch.testing.assert_close(layer.lora_magnitude_vector["default"].weight.double(), exact, rtol=1e-6, atol=1e-6)
    x = torch.randn(3, 16, dtype=torch.bfloat16)
    assert torch.equal(model(x), base(x))


def test_autocast_dtype_off__keeps_the_bases_precision() -> None:
    base = nn.Linear(16, 8).to(torch.bfloat16)
    model = get_peft_model(Holder(base), LoraConfig(r=2, target_modules=["layer"]), autocast_adapter_dtype=False)
    assert {p.dtype for n, p in model.named_parameters() if "lora_" in n} == {torch.bfloat16}


@pytest.mark.parametrize("case", [c for c in KINDS if c.name != "embedding"], ids=str)
def test_autocast__comes_close_to_full_precision(case: Case) -> None:
    model = adapted(case, PLAIN, torch.float32)
    args, kwargs = case.call(torch.float32)
    expected = model(*args, **kwargs)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(*args, **kwargs)
        weighted_sum(output).backward()
    for ours, theirs in zip(tensors_in(output), tensors_in(expected), strict=True):
        assert (ours.float() - theirs).abs().max() < 0.05 * theirs.abs().max()
    assert all(p.grad.dtype == torch.float32 for n, p in model.named_parameters() if "lora_" in n)
