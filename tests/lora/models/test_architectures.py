"""Whole models with adapters against the same models with W + ΔW written into their weights."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tests.lora.models import by_hand, zoo
from tests.lora.models.zoo import Architecture
from torch import nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import TargetError

WITHOUT_LINEAR = ("poolformer", "resnet")
"""Models of transformers whose only linear layer is the head."""


def _choices() -> list[Any]:
    found: list[Any] = []
    for architecture in zoo.ALL:
        choices: dict[str, Any] = {"default": None, "explicit": list(architecture.explicit), "all_linear": "all-linear"}
        if isinstance(architecture.build(), zoo.Encoder):
            del choices["default"]
        if architecture.name in WITHOUT_LINEAR:
            del choices["all_linear"]
        found += [pytest.param(architecture, t, id=f"{architecture}-{word}") for word, t in choices.items()]
    return found


each_choice = pytest.mark.parametrize(("architecture", "targets"), _choices())
each = pytest.mark.parametrize("architecture", zoo.ALL, ids=str)


def _norms_frozen(base: nn.Module) -> nn.Module:
    """The base in training mode with its batch norms left alone, as an adapted model leaves them."""
    base.train()
    for module in base.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return base


@each_choice
def test_gradients__are_those_of_the_explicit_weights(architecture: Architecture, targets: Any) -> None:
    model = by_hand.adapted(architecture, target_modules=targets).train()
    base = _norms_frozen(architecture.base())
    sample = architecture.sample()
    found = list(by_hand.factors(model).values())
    assert len(found) == 2 * len(by_hand.layers(model))
    expected = by_hand.run_by_hand(base, by_hand.weights(model, base), sample)
    output = model(*sample[0], **sample[1])
    by_hand.assert_close(output, expected)
    of_theirs = torch.autograd.grad(by_hand.scalar(expected), found)
    of_ours = torch.autograd.grad(by_hand.scalar(output), found)
    for ours, theirs in zip(of_ours, of_theirs, strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8 * theirs.abs().max().item())
    assert all(p.grad is None and not p.requires_grad for k, p in model.named_parameters() if ".lora_" not in k)


@each_choice
def test_outputs__are_those_of_the_written_weights_merged_or_not(architecture: Architecture, targets: Any) -> None:
    model, base = by_hand.adapted(architecture, target_modules=targets), architecture.base()
    args, kwargs = architecture.sample()
    expected = by_hand.weights(model, base)
    with torch.no_grad():
        unmerged = model(*args, **kwargs)
        by_hand.assert_close(unmerged, by_hand.written(base, expected)(*args, **kwargs))
        assert by_hand.scalar(unmerged) != pytest.approx(by_hand.scalar(base(*args, **kwargs)))
        model.merge_adapter()
        by_hand.assert_close(model(*args, **kwargs), unmerged)
        model.unmerge_adapter()
        by_hand.assert_same(model(*args, **kwargs), unmerged)
        with model.disable_adapter():
            by_hand.assert_same(model(*args, **kwargs), base(*args, **kwargs))
        plain = model.merge_and_unload()
        by_hand.assert_close(plain(*args, **kwargs), unmerged)
    expected = {**base.state_dict(), **expected}
    assert plain.state_dict().keys() == expected.keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-9, atol=1e-9)


@each
def test_unload__gives_the_base_back(architecture: Architecture) -> None:
    model, base = by_hand.adapted(architecture, target_modules=list(architecture.explicit)), architecture.base()
    args, kwargs = architecture.sample()
    with torch.no_grad():
        by_hand.assert_same(model.unload()(*args, **kwargs), base(*args, **kwargs))
    assert {n: type(m) for n, m in model.get_base_model().named_modules()} == {
        n: type(m) for n, m in base.named_modules()
    }


@each
def test_save__loads_into_a_fresh_base_bit_for_bit(architecture: Architecture, tmp_path: Path) -> None:
    model = by_hand.adapted(architecture, torch.float32, target_modules=list(architecture.explicit))
    args, kwargs = architecture.sample(torch.float32)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*larger than the layers")
        loaded = PeftModel.from_pretrained(architecture.base(torch.float32), tmp_path).eval()
    with torch.no_grad():
        by_hand.assert_same(loaded(*args, **kwargs), model(*args, **kwargs))


@each
def test_deepcopy__is_independent_and_equal(architecture: Architecture) -> None:
    model = by_hand.adapted(architecture, target_modules=list(architecture.explicit))
    args, kwargs = architecture.sample()
    with torch.no_grad():
        expected = model(*args, **kwargs)
        twin = copy.deepcopy(model)
        by_hand.assert_same(twin(*args, **kwargs), expected)
        by_hand.draw(twin)
        twin.merge_adapter()
        by_hand.assert_same(model(*args, **kwargs), expected)


@each_choice
def test_verify__finds_every_adapter_live(architecture: Architecture, targets: Any) -> None:
    model = by_hand.adapted(architecture, target_modules=targets)
    args, kwargs = architecture.sample()
    report = model.verify(*args, **kwargs)
    assert report.ok, report
    assert report.checked == len(by_hand.layers(model))
    assert not report.not_mergeable


@pytest.mark.parametrize("architecture", [*zoo.TRANSFORMERS, *zoo.TIMM, *zoo.TORCHVISION, zoo.MASK2FORMER], ids=str)
def test_defaults__leave_the_head_and_the_first_layer_alone(architecture: Architecture) -> None:
    base = architecture.base()
    first = next(n for n, m in base.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    names = by_hand.adapted(architecture).targeted_module_names
    assert first not in names
    assert not any(name.startswith(architecture.head) for name in names)
    assert base.get_submodule(architecture.head) is not None


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [("tf_efficientnet_b0", "conv_stem", "Conv2dSame"), ("resnetv2_50x1_bit", "conv2", "StdConv2d")],
)
def test_convolutions_that_compute_something_else__are_refused_by_name(name: str, target: str, kind: str) -> None:
    with torch.device("meta"):
        base = timm.create_model(name)
    before = {n: type(m) for n, m in base.named_modules()}
    with pytest.raises(TargetError, match=rf"{target}: {kind} is a Conv2d that changes forward"):
        get_peft_model(base, LoraConfig(target_modules=[target]))
    assert {n: type(m) for n, m in base.named_modules()} == before
