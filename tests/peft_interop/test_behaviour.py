"""What people do with an adapted model gives the outputs that peft gives."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from tests.peft_interop.toolkit import KINDS, adapted, perturb, quiet, sample_for, tiny
from torch import Tensor, nn

import lumora.peft


def pair(kind: str = "Linear", head: bool = False, **config: Any) -> list[Any]:
    """Both libraries' models with two adapters of the same values."""
    models: list[Any] = []
    options = {"modules_to_save": ["head"]} if head else {}
    for library in (peft, lumora.peft):
        model = adapted(library, tiny(kind), r=2, target_modules=["layer"], **options, **config)
        with quiet():
            model.add_adapter("second", library.LoraConfig(r=4, target_modules=["layer"], **options, **config))
        perturb(model)
        models.append(model.eval())
    return models


def assert_same(models: list[Any], kind: str = "Linear", atol: float = 2e-6, **options: Any) -> Tensor:
    x = sample_for(kind)
    theirs, ours = (model(x, **options) for model in models)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)
    return ours


VARIANTS: dict[str, dict[str, Any]] = {"plain": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True}}
NOT_IN_PEFT = {("MultiheadAttention", "dora")}
CASES = [(k, v) for k in KINDS for v in VARIANTS if (k, v) not in NOT_IN_PEFT]


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_merging_unmerging_and_disabling__give_the_same_outputs(kind: str, variant: str) -> None:
    models = pair(kind, **VARIANTS[variant])
    both = assert_same(models, kind)
    for model in models:
        model.merge_adapter()
    assert_same(models, kind, atol=1e-5)
    for model in models:
        model.unmerge_adapter()
    assert_same(models, kind, atol=1e-5)
    base = tiny(kind)(sample_for(kind))
    for model in models:
        with model.disable_adapter():
            torch.testing.assert_close(model(sample_for(kind)), base, rtol=0, atol=1e-5)
    assert (both - base).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_several_active_adapters__give_the_same_outputs(kind: str) -> None:
    models = pair(kind)
    for names in (["default", "second"], ["second", "default"], ["second"]):
        for model in models:
            model.base_model.set_adapter(names)
            model.eval()
        assert_same(models, kind)
    for model in models:
        model.base_model.set_adapter(["default", "second"])
        model.merge_adapter(["default"])
        model.merge_adapter(["second"])
    assert_same(models, kind, atol=1e-5)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "MultiheadAttention"])
@pytest.mark.parametrize("head", [False, True], ids=["bare", "head"])
def test_mixed_batch__gives_the_same_outputs(kind: str, head: bool) -> None:
    assert_same(pair(kind, head), kind, adapter_names=["second", "__base__", "default"])


@pytest.mark.parametrize("kind", KINDS)
def test_merged_and_unloaded_models__are_the_same(kind: str) -> None:
    models = [model.merge_and_unload() for model in pair(kind, head=True)]
    states = [model.state_dict() for model in models]
    assert sorted(states[1]) == sorted(states[0])
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=0, atol=1e-5, msg=key)
    assert [type(m) for m in models[1].modules()] == [type(m) for m in models[0].modules()]


@pytest.mark.parametrize("kind", KINDS)
def test_unloaded_models__are_the_base_whose_head_peft_leaves_trained(kind: str) -> None:
    trained, ours = (model.unload().state_dict() for model in pair(kind, head=True))
    base = tiny(kind).state_dict()
    assert list(ours) == list(base)
    for key, value in base.items():
        assert torch.equal(ours[key], value), key
        if not key.startswith("head."):
            assert torch.equal(trained[key], value), key
    assert not torch.equal(trained["head.weight"], base["head.weight"])


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_gradients__are_the_same(kind: str, variant: str) -> None:
    models = pair(kind, head=True, **VARIANTS[variant])
    for model in models:
        model(sample_for(kind)).square().sum().backward()
    gradients = [{n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in models]
    # peft's output projection counts twice, and so do its gradients
    names = {n for n in gradients[0] if "out_proj" not in n}
    assert names == {n for n in gradients[1] if "out_proj" not in n}
    for name in names:
        torch.testing.assert_close(gradients[1][name], gradients[0][name], rtol=1e-4, atol=1e-4, msg=name)


def test_deleting_the_active_adapter__activates_the_same_one() -> None:
    models = pair()
    for model in models:
        with quiet():
            model.delete_adapter("default")
    assert [m.active_adapters for m in models] == [["second"], ["second"]]
    assert_same(models)
    assert [list(m.peft_config) for m in models] == [["second"], ["second"]]


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_training_a_few_steps__gives_the_same_weights(bias: str) -> None:
    finals: list[dict[str, Tensor]] = []
    for library in (peft, lumora.peft):
        model = adapted(library, tiny("Linear"), r=2, target_modules=["layer"], bias=bias, modules_to_save=["head"])
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.01)
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(sample_for("Linear")), torch.tensor([0, 1, 2])).backward()
            optimizer.step()
        finals.append({n: p.detach() for n, p in model.named_parameters()})
    for name, value in finals[0].items():
        torch.testing.assert_close(finals[1][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_unknown_attributes__are_those_of_the_base() -> None:
    for model in pair():
        assert model.kind is model.get_base_model().kind
        assert model.base_model.model is model.get_base_model()
        with pytest.raises(AttributeError):
            model.nothing_of_that_name


def test_get_peft_model_on_an_adapted_model__makes_the_new_adapter_the_active_one() -> None:
    outputs: list[Tensor] = []
    for library in (peft, lumora.peft):
        first = adapted(library, tiny("Linear"), r=2, target_modules=["layer"], init_lora_weights=False)
        options = {"r": 2, "target_modules": ["one.layer"], "init_lora_weights": False}
        with quiet():
            model = adapted(library, first.get_base_model(), name="second", seed=2, **options)
        assert list(model.peft_config) == ["default", "second"]
        assert model.active_adapter == "second"
        outputs.append(model(sample_for("Linear")))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-6)
