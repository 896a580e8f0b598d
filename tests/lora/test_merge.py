"""Folding adapters into the base's weights, and taking them out again."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.lora.reference import (
    CASES,
    KINDS,
    MODES,
    Case,
    Mode,
    adapted,
    adapter_tensors,
    assert_close,
    changes,
    draw,
    scaling_of,
    tensors_in,
)
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import AdapterError, MergeError, PeftWarning, TargetError
from lumora.lora.layers import LoraLayer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask and attn_mask"),
]
MERGED_MODES = tuple(m for m in MODES if m.name in ("plain", "dora", "lora_bias", "mixed"))


def _can_merge(case: Case, mode: Mode) -> bool:
    """A bias of an adapter needs one of the base to be merged into."""
    layer = case.layer()
    has_bias = getattr(layer, "bias", getattr(layer, "in_proj_bias", None)) is not None
    return case.mergeable and mode.fits(case) and (mode.name != "lora_bias" or has_bias)


MERGEABLE = [pytest.param(c, m, id=f"{c}-{m}") for c in CASES for m in MERGED_MODES if _can_merge(c, m)]
MERGEABLE_KINDS = [pytest.param(c, m, id=f"{c}-{m}") for c in KINDS for m in MERGED_MODES if _can_merge(c, m)]


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def _assert_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    now = model.state_dict()
    assert now.keys() == state.keys()
    for key, value in state.items():
        assert now[key].dtype == value.dtype
        assert torch.equal(now[key], value), key


class Two(nn.Module):
    """Two layers, so that something can go wrong halfway."""

    def __init__(self, second: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = second or nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def _two(*names: str, second: nn.Module | None = None, **options: object) -> PeftModel:
    config = LoraConfig(r=2, target_modules=["first", "second"], **options)
    model = get_peft_model(Two(second), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    draw(model)
    return model


@pytest.mark.parametrize(("case", "mode"), MERGEABLE)
def test_merge__gives_the_unmerged_output_and_unmerge_restores_every_bit(case: Case, mode: Mode) -> None:
    model = adapted(case, mode, torch.float32).eval()
    args, kwargs = case.call(torch.float32)
    before, output = _state(model), tensors_in(model(*args, **kwargs))
    model.merge_adapter()
    merged = tensors_in(model(*args, **kwargs))
    for ours, theirs in zip(merged, output, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max().item())
    with torch.no_grad():
        for ours, theirs in zip(tensors_in(model(*args, **kwargs)), merged, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    _assert_state(model, before)
    for ours, theirs in zip(tensors_in(model(*args, **kwargs)), output, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("case", "mode"), MERGEABLE_KINDS)
def test_merge__puts_the_explicit_weight_into_the_base(case: Case, mode: Mode) -> None:
    model = adapted(case, mode)
    tensors = {n: p.detach() for n, p in adapter_tensors(model).items()}
    expected = dict(case.layer().named_parameters())
    for name, config in model.peft_config.items():
        for key, change in changes(case.layer(), tensors, name, scaling_of(config)).items():
            expected[key] = expected[key] + change
    model.merge_adapter()
    assert model.base_model.model.layer.merged_adapters == list(mode.adapters)
    plain = model.merge_and_unload().layer
    assert type(plain) is type(case.layer())
    assert plain.state_dict().keys() == expected.keys()
    for key, value in plain.named_parameters():
        assert_close(value, expected[key])


@pytest.mark.parametrize("case", [c for c in KINDS if c.mergeable], ids=str)
def test_merge__several_in_order_is_their_sum_whatever_the_order(case: Case) -> None:
    """DoRA's change is taken from the original weight, so that merging it second changes nothing."""
    model = adapted(case, MODES[-1])
    before = _state(model)
    model.merge_adapter(["default"])
    model.merge_adapter(["second"])
    one_by_one = _state(model)
    assert model.base_model.model.layer.merged_adapters == ["default", "second"]
    model.unmerge_adapter()
    _assert_state(model, before)
    model.merge_adapter(["second", "default"])
    for key, value in model.state_dict().items():
        assert_close(value, one_by_one[key])
    model.unmerge_adapter()
    _assert_state(model, before)


@pytest.mark.parametrize("case", [c for c in KINDS if c.mergeable], ids=str)
def test_get_delta_weight__is_the_change_that_merging_makes(case: Case) -> None:
    layer = adapted(case).base_model.model.layer
    deltas = layer.delta_weights("default")
    before = {n: getattr(layer.base_layer, n).detach().clone() for n in deltas}
    LoraLayer.merge(layer)
    for name, delta in deltas.items():
        assert_close(getattr(layer.base_layer, name) - before[name], delta)
    layer.unmerge()
    if len(deltas) == 1:
        assert torch.equal(layer.get_delta_weight("default"), deltas.popitem()[1])
    else:
        with pytest.raises(AdapterError, match="several weights"):
            layer.get_delta_weight("default")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merge__of_a_half_precision_base_rounds_once_and_unmerge_restores_every_bit(dtype: torch.dtype) -> None:
    model = _two("a", "b")
    base = copy.deepcopy(model.base_model.model.first.base_layer.weight.detach()).to(dtype)
    model = model.to(dtype)
    layer = model.base_model.model.first
    for container in (layer.lora_A, layer.lora_B):
        container.float()
    before = _state(model)
    exact = base.float() + sum(layer.update_matrix(n).detach().float() for n in ("a", "b"))
    model.merge_adapter(["a", "b"])
    assert torch.equal(layer.base_layer.weight, exact.to(dtype))
    model.unmerge_adapter()
    _assert_state(model, before)


def test_merge_and_unload__gives_the_plain_base_without_a_trace() -> None:
    base = Two()
    keys, modules = list(base.state_dict()), [type(m) for m in base.modules()]
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["first", "second"]))
    draw(model)
    x = torch.randn(3, 4)
    expected = model(x)
    plain = model.merge_and_unload()
    assert plain is base
    torch.testing.assert_close(plain(x), expected, rtol=1e-5, atol=1e-5)
    assert list(plain.state_dict()) == keys
    assert [type(m) for m in plain.modules()] == modules
    assert "peft_config" not in vars(plain)
    again = get_peft_model(plain, LoraConfig(r=2, target_modules=["first"]))
    torch.testing.assert_close(again(x), plain(x))


def test_merge_and_unload__of_some_adapters_leaves_the_others_out() -> None:
    model = _two("a", "b")
    model.base_model.set_adapter(["a", "b"])
    x = torch.randn(3, 4)
    model.base_model.set_adapter(["b"])
    expected = model(x)
    model.base_model.set_adapter(["a"])
    torch.testing.assert_close(model.merge_and_unload(adapter_names=["b"])(x), expected, rtol=1e-5, atol=1e-5)


def test_merge_and_unload__after_a_merge_adds_only_what_is_not_merged() -> None:
    model = _two("a", "b")
    model.base_model.set_adapter(["a", "b"])
    x = torch.randn(3, 4)
    expected = model(x)
    model.merge_adapter(["a"])
    torch.testing.assert_close(model.merge_and_unload()(x), expected, rtol=1e-5, atol=1e-5)


def test_unload__gives_the_base_back_bit_for_bit_even_after_a_merge() -> None:
    base = Two()
    before = _state(base)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["first", "second"]))
    draw(model)
    model.merge_adapter()
    assert model.unload() is base
    _assert_state(base, before)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_safe_merge__refuses_what_is_not_finite_and_merges_nothing(bad: float) -> None:
    model = _two("a", "b")
    with torch.no_grad():
        model.base_model.model.second.lora_B["b"].weight[0, 0] = bad
    before = _state(model)
    with pytest.raises(MergeError, match="not finite"):
        model.merge_adapter(["a", "b"], safe_merge=True)
    _assert_bits(model, before)
    assert not any(layer.merged for layer in _layers(model))


def test_safe_merge__that_fails_leaves_an_earlier_merge_as_it_was() -> None:
    model = _two("a", "b")
    with torch.no_grad():
        model.base_model.model.second.lora_B["b"].weight[0, 0] = float("inf")
    pristine = _state(model)
    model.merge_adapter(["a"])
    before = _state(model)
    with pytest.raises(MergeError):
        model.merge_adapter(["b"], safe_merge=True)
    _assert_bits(model, before)
    assert [layer.merged_adapters for layer in _layers(model)] == [["a"], ["a"]]
    model.unmerge_adapter()
    _assert_bits(model, pristine)


def test_merge__of_a_grouped_convolution_is_refused_with_nothing_changed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(4, 4, 1)
            self.second = nn.Conv2d(4, 4, 3, groups=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model = get_peft_model(Net(), LoraConfig(r=2, target_modules=["first", "second"]))
    draw(model)
    before, x = _state(model), torch.randn(1, 4, 5, 5)
    output = model(x)
    for verb in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(MergeError, match=r"(?s)nothing was merged.*second.*2 groups"):
            verb()
        _assert_state(model, before)
        assert torch.equal(model(x), output)


def test_merge__of_an_adapters_bias_into_a_layer_without_one_is_refused_with_nothing_changed() -> None:
    model = _two("a", second=nn.Linear(4, 4, bias=False), lora_bias=True)
    before = _state(model)
    with pytest.raises(MergeError, match=r"(?s)second.*bias"):
        model.merge_adapter()
    _assert_state(model, before)
    assert not any(layer.merged for layer in _layers(model))


class Tied(nn.Module):
    """An embedding and a layer that share one weight, as autoencoders and language models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.decoder = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.decoder(self.embedding(ids))


def test_merge__into_a_weight_that_another_module_shares_is_refused() -> None:
    model, ids = get_peft_model(Tied(), LoraConfig(r=2, target_modules=["decoder"])), torch.arange(6)
    draw(model)
    before, output = _state(model), model(ids)
    with pytest.raises(MergeError, match=r"decoder: .*its weight, which is shared with 'embedding\.weight'"):
        model.merge_adapter()
    _assert_state(model, before)
    assert torch.equal(model(ids), output)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_start__that_would_change_a_weight_that_another_module_shares_is_refused(start: str) -> None:
    base = Tied()
    before = _state(base)
    with pytest.raises(TargetError, match=rf"decoder: .*'{start}'.*shared with 'embedding\.weight'"):
        get_peft_model(base, LoraConfig(r=2, target_modules=["decoder"], init_lora_weights=start))
    _assert_state(base, before)


def test_merge__in_inference_mode_can_be_undone_outside() -> None:
    model, x = _two("a"), torch.randn(3, 4)
    before, output = _state(model), model(x)
    with torch.inference_mode():
        model.merge_adapter()
        torch.testing.assert_close(model(x), output, rtol=1e-5, atol=1e-5)
    model.unmerge_adapter()
    _assert_state(model, before)
    model(x).sum().backward()


def test_merge__twice_warns_and_adds_nothing() -> None:
    model = _two("a")
    model.merge_adapter()
    before = _state(model)
    with pytest.warns(PeftWarning, match="Already merged"):
        model.merge_adapter()
    _assert_state(model, before)


def test_unmerge__without_a_merge_warns() -> None:
    with pytest.warns(PeftWarning, match="nothing to unmerge"):
        _two("a").unmerge_adapter()


def test_merge__of_an_unknown_adapter_is_an_error() -> None:
    with pytest.raises(AdapterError, match="'b'"):
        _two("a").merge_adapter(["b"])


def test_merged_layers__refuse_what_would_have_no_effect() -> None:
    model = _two("a", "b")
    model.merge_adapter(["a"])
    before = _state(model)
    with pytest.raises(AdapterError, match="unmerge_adapter"):
        model.delete_adapter("a")
    with pytest.raises(AdapterError, match="unmerge_adapter"):
        model.set_strength("a", 0.5)
    with pytest.raises(AdapterError, match="unmerge_adapter"), model.disable_adapter():
        pass
    _assert_state(model, before)


def test_set_adapter__while_merged_warns_and_unmerges() -> None:
    model = _two("a", "b")
    x, before = torch.randn(3, 4), _state(model)
    model.set_adapter("b")
    expected = model(x)
    model.merge_adapter(["a"])
    with pytest.warns(PeftWarning, match="merged"):
        model.set_adapter("b")
    _assert_state(model, before)
    assert torch.equal(model(x), expected)


def test_add_adapter__while_merged_warns_and_starts_from_the_merged_output() -> None:
    model, x = _two("a"), torch.randn(3, 4)
    model.merge_adapter()
    merged = model(x)
    with pytest.warns(PeftWarning, match="merged"):
        model.add_adapter("b", LoraConfig(r=2, target_modules=["first"]))
    assert torch.equal(model(x), merged)


def test_rename__of_a_merged_adapter_can_still_be_unmerged() -> None:
    model = _two("a")
    before = _state(model)
    model.merge_adapter()
    model.base_model.rename_adapter("a", "z")
    assert [layer.merged_adapters for layer in _layers(model)] == [["z"], ["z"]]
    model.unmerge_adapter()
    assert [v.tolist() for v in model.state_dict().values()] == [v.tolist() for v in before.values()]


def test_deepcopy__of_a_merged_model_unmerges_on_its_own() -> None:
    model = _two("a")
    before = _state(model)
    model.merge_adapter()
    merged = _state(model)
    other = copy.deepcopy(model)
    other.unmerge_adapter()
    _assert_state(other, before)
    _assert_state(model, merged)


def test_merge__writes_into_the_parameters_that_an_optimizer_may_hold() -> None:
    model = _two("a")
    layer = model.base_model.model.first.base_layer
    weight, place = layer.weight, layer.weight.data_ptr()
    model.merge_adapter()
    model.unmerge_adapter()
    assert layer.weight is weight
    assert layer.weight.data_ptr() == place


def test_training_a_merged_model__leaves_its_adapters_without_gradient() -> None:
    model = _two("a")
    model.merge_adapter()
    x = torch.randn(3, 4, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in model.parameters())


def _layers(model: nn.Module) -> list[LoraLayer]:
    return [m for m in model.modules() if isinstance(m, LoraLayer)]


def _assert_bits(model: nn.Module, state: dict[str, Tensor]) -> None:
    """As `_assert_state`, where a value may be NaN."""
    for key, value in model.state_dict().items():
        assert torch.equal(value.view(torch.int32), state[key].view(torch.int32)), key
