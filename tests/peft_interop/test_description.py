"""Counts, names and statuses are those that peft gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import peft
import pytest
from tests.peft_interop.toolkit import KINDS, adapted, mlp, tiny
from torch import nn

import lumora.peft

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "head": {"modules_to_save": ["head"]},
    "all biases": {"bias": "all"},
    "all biases and head": {"bias": "all", "modules_to_save": ["head"]},
    "own biases": {"bias": "lora_only"},
    "ranks": {"rank_pattern": {"two.layer": 4}},
    "frozen": {"inference_mode": True},
}


def both(kind: str, **config: Any) -> tuple[Any, Any]:
    first, second = (
        adapted(library, tiny(kind), r=2, target_modules=["layer"], **config) for library in (peft, lumora.peft)
    )
    return first, second


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_parameters__have_the_names_sizes_and_training_of_peft(kind: str, config: dict[str, Any]) -> None:
    theirs, ours = both(kind, **config)
    described = [sorted((n, tuple(p.shape), p.requires_grad) for n, p in m.named_parameters()) for m in (theirs, ours)]
    assert described[1] == described[0]
    assert ours.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_print_trainable_parameters__is_the_same_line(
    config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = both("Linear", **config)
    theirs.print_trainable_parameters()
    expected = capsys.readouterr().out
    ours.print_trainable_parameters()
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("kind", KINDS)
def test_targeted_module_names__are_the_same(kind: str) -> None:
    theirs, ours = both(kind)
    assert sorted(ours.targeted_module_names) == sorted(theirs.targeted_module_names)


def test_targeted_module_names__after_a_second_adapter() -> None:
    names: list[list[str]] = []
    for library in (peft, lumora.peft):
        model = adapted(library, mlp(), r=2, target_modules=["0"])
        model.add_adapter("second", library.LoraConfig(r=2, target_modules=["2", "4"]))
        names.append(sorted(model.targeted_module_names))
    assert names[1] == names[0]


def statuses(model: Any) -> list[dict[str, Any]]:
    return [dataclasses.asdict(model.get_model_status()), *map(dataclasses.asdict, model.get_layer_status())]


def do_nothing(model: Any) -> None: ...


def merge(model: Any) -> None:
    model.merge_adapter()


def activate_second(model: Any) -> None:
    model.set_adapter("second")


def activate_both(model: Any) -> None:
    model.base_model.set_adapter(["second", "default"])


def freeze_some(model: Any) -> None:
    next(p for n, p in model.named_parameters() if n.endswith("one.layer.lora_A.default.weight")).requires_grad_(False)


def merge_in_one_layer(model: Any) -> None:
    model.base_model.model.two["layer"].merge()


def with_two_adapters(library: Any, **options: Any) -> Any:
    model = adapted(library, tiny("Linear"), r=2, target_modules=["layer"], **options)
    model.add_adapter("second", library.LoraConfig(r=2, target_modules=["two.layer"], **options))
    return model


@pytest.mark.parametrize(
    ("action", "saved"),
    [
        *((action, None) for action in (do_nothing, merge, activate_second, activate_both, freeze_some)),
        *((action, ["head"]) for action in (do_nothing, activate_second, freeze_some)),
        (merge_in_one_layer, None),
    ],
)
def test_status__is_what_peft_says(action: Any, saved: list[str] | None) -> None:
    results: list[Any] = []
    for library in (peft, lumora.peft):
        model = with_two_adapters(library, modules_to_save=saved)
        action(model)
        results.append(statuses(model))
    for layer in results[0][1:]:  # peft lists active adapters also for layers that do not have them
        layer["active_adapters"] = [n for n in layer["active_adapters"] if n in layer["available_adapters"]]
    assert results[1] == results[0]


def test_disabled_adapters__have_the_status_of_peft_but_stay_trainable() -> None:
    for saved in (None, ["head"]):
        results: list[Any] = []
        for library in (peft, lumora.peft):
            model = with_two_adapters(library, modules_to_save=saved)
            model.base_model.disable_adapter_layers()
            results.append(statuses(model))
        theirs, ours = ([(s["enabled"], s["active_adapters"], s["merged_adapters"]) for s in r] for r in results)
        assert ours == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_status_of_each_kind__is_what_peft_says(kind: str) -> None:
    theirs, ours = both(kind)
    assert statuses(ours) == statuses(theirs)


def test_status_of_an_injected_model__is_what_peft_says_layer_by_layer() -> None:
    results: list[Any] = []
    for library in (peft, lumora.peft):
        model = mlp()
        library.inject_adapter_in_model(library.LoraConfig(r=2, target_modules=["0", "2"]), model)
        layers = [dataclasses.asdict(s) for s in library.get_layer_status(model)]
        whole = dataclasses.asdict(library.get_model_status(model))
        del whole["base_model_type"], whole["peft_types"]  # peft leaves these out, we say them
        results.append((layers, whole))
    assert results[1] == results[0]


def test_active_peft_config_and_modules_to_save__are_what_peft_says() -> None:
    for saved in (None, ["head"]):
        theirs, ours = both("Linear", modules_to_save=saved)
        assert ours.modules_to_save == theirs.modules_to_save
        assert ours.active_adapter == theirs.active_adapter
        assert ours.active_adapters == theirs.active_adapters
        assert ours.active_peft_config.r == theirs.active_peft_config.r


@pytest.mark.parametrize("kind", KINDS)
def test_layer__answers_what_a_layer_of_peft_answers(kind: str) -> None:
    theirs, ours = (m.base_model.model.one["layer"] for m in both(kind, lora_alpha=6, lora_dropout=0.1))
    for name in ("r", "lora_alpha", "scaling", "use_dora"):
        assert dict(getattr(ours, name)) == dict(getattr(theirs, name)), name
    for name in ("active_adapters", "merged", "merged_adapters", "disable_adapters"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"):
        assert list(getattr(ours, name)) == list(getattr(theirs, name)), name
    assert ours.lora_dropout["default"].p == theirs.lora_dropout["default"].p
    assert type(ours.get_base_layer()) is type(theirs.get_base_layer())
    assert repr(ours).startswith(repr(theirs).partition("(")[0] + "(")
    for name in ("in_features", "out_features"):
        if hasattr(theirs, name) and kind in ("Linear", "Conv1D", "Embedding"):
            assert getattr(ours, name) == getattr(theirs, name), name


def test_isinstance__with_the_names_of_peft() -> None:
    from lumora.peft.tuners.lora import LoraLayer, LoraModel
    from lumora.peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    from lumora.peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

    model = adapted(lumora.peft, tiny("Linear"), r=2, target_modules=["layer"], modules_to_save=["head"])
    base = model.get_base_model()
    assert isinstance(model.base_model, LoraModel)
    assert isinstance(model.base_model, BaseTuner)
    assert isinstance(base.one["layer"], LoraLayer)
    assert isinstance(base.one["layer"], BaseTunerLayer)
    assert isinstance(base.head, ModulesToSaveWrapper)
    assert isinstance(base.head, AuxiliaryTrainingWrapper)
    assert isinstance(base, nn.Module)
