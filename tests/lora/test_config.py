"""What a configuration accepts, and how it says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lumora import LoraConfig, PeftConfig, TaskType
from lumora.errors import ConfigError
from lumora.lora import EvaConfig, PeftType

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"r": 0}, "'r' is 0"),
    ({"r": -1}, "'r' is -1"),
    ({"r": 2.5}, "r is 2.5; it must be a whole number"),
    ({"r": True}, "r is True; it must be a whole number"),
    ({"r": "8"}, "r is '8'"),
    ({"r": 10**9}, "must be between 1 and"),
    ({"lora_alpha": "8"}, "lora_alpha is '8'; it must be a finite number"),
    ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
    ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
    ({"lora_dropout": 1.0}, "lora_dropout is 1.0; it must be at least 0 and below 1"),
    ({"lora_dropout": -0.1}, "lora_dropout is -0.1"),
    ({"lora_dropout": None}, "lora_dropout is None"),
    ({"bias": "some"}, "bias is 'some'; it must be 'none', 'all' or 'lora_only'"),
    ({"batch_norm": "moving"}, "batch_norm is 'moving'"),
    ({"init_lora_weights": "kaiming"}, "init_lora_weights is 'kaiming'; it must be True, False, 'gaussian'"),
    ({"init_lora_weights": "pissa_niter_"}, "init_lora_weights is 'pissa_niter_'"),
    ({"init_lora_weights": None}, "init_lora_weights is None"),
    ({"init_lora_weights": "orthogonal", "r": 3}, "'orthogonal' needs even ranks"),
    ({"init_lora_weights": "orthogonal", "rank_pattern": {"a": 5}}, "'orthogonal' needs even ranks"),
    ({"rank_pattern": {"a": 0}}, "'a' is 0"),
    ({"rank_pattern": {"a": "4"}}, "rank_pattern is"),
    ({"rank_pattern": ["a"]}, "rank_pattern is"),
    ({"alpha_pattern": {"a": "4"}}, "alpha_pattern is"),
    ({"target_modules": 5}, "target_modules is 5"),
    ({"target_modules": ["a", 5]}, "target_modules is"),
    ({"target_modules": "*.query"}, r"target_modules has '\*.query', which is no regular expression"),
    ({"exclude_modules": "(open"}, r"exclude_modules has '\(open'"),
    ({"rank_pattern": {"a(": 4}}, r"rank_pattern has 'a\('"),
    ({"target_modules": ".*", "layers_to_transform": [0]}, "works with a list of target_modules"),
    ({"target_modules": ["a"], "layers_pattern": "blocks"}, "also say which with layers_to_transform"),
    ({"target_modules": ["a"], "layers_to_transform": [0.5]}, "layers_to_transform is"),
    ({"modules_to_save": 5}, "modules_to_save is 5"),
    ({"use_dora": True, "lora_bias": True}, "cannot be combined"),
    ({"use_dora": "yes"}, "use_dora is 'yes'; it must be True or False"),
    ({"peft_type": "IA3"}, "only 'LORA' adapters are supported"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[str(options) for options, _ in MISTAKES])
def test_mistake__is_named_with_what_would_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        LoraConfig(**options)
    assert isinstance(caught.value, ValueError)


def test_mistakes__stand_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        LoraConfig(r=0, lora_dropout=2.0, bias="some", init_lora_weights="what")  # type: ignore[arg-type]
    for part in ("'r' is 0", "lora_dropout is 2.0", "bias is 'some'", "init_lora_weights is 'what'"):
        assert part in str(caught.value)


@pytest.mark.parametrize("start", [True, False, "gaussian", "orthogonal", "pissa", "pissa_niter_4", "olora", "eva"])
def test_every_start__is_accepted(start: Any) -> None:
    assert LoraConfig(init_lora_weights=start).init_lora_weights == start


def test_defaults__are_those_of_peft() -> None:
    from peft import LoraConfig as Theirs

    ours, theirs = LoraConfig().to_dict(), Theirs().to_dict()
    for field, value in ours.items():
        if field in theirs and field != "peft_version":
            assert value == theirs[field], field
    for field, value in LoraConfig.unsupported_defaults.items():
        assert value == theirs[field], field


def test_lists__become_sets_and_the_callers_list_stays() -> None:
    names = ["b", "a"]
    config = LoraConfig(target_modules=names, exclude_modules=("c",))
    assert config.target_modules == {"a", "b"}
    assert config.exclude_modules == {"c"}
    assert names == ["b", "a"]


def test_to_dict__holds_plain_values() -> None:
    values = LoraConfig(target_modules={"b", "a"}, task_type=TaskType.SEQ_CLS, eva_config=EvaConfig(rho=1.5)).to_dict()
    assert values["target_modules"] == ["a", "b"]
    assert values["peft_type"] == "LORA"
    assert values["task_type"] == "SEQ_CLS"
    assert values["eva_config"]["rho"] == 1.5
    assert type(values["peft_type"]) is str


def test_replace__keeps_what_is_not_named() -> None:
    config = LoraConfig(r=4, target_modules=["a"], lora_alpha=3)
    other = replace(config, r=2)
    assert (other.r, other.lora_alpha, other.target_modules) == (2, 3, {"a"})
    assert config.r == 4


@pytest.mark.parametrize(
    ("options", "message"), [({"rho": 0.5}, "rho is 0.5"), ({"tau": 1.5}, "tau is 1.5"), ({"rho": "2"}, "rho is '2'")]
)
def test_eva_config__checks_its_own(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaConfig(**options)
    with pytest.raises(ConfigError, match=message):
        LoraConfig(init_lora_weights="eva", eva_config=options)


def test_eva_config__may_be_a_dictionary() -> None:
    assert LoraConfig(eva_config={"rho": 3.0}).eva_config == EvaConfig(rho=3.0)


def test_peft_config__is_the_base_of_lora_config() -> None:
    config = LoraConfig()
    assert isinstance(config, PeftConfig)
    assert config.peft_type == PeftType.LORA == "LORA"
    assert not config.is_prompt_learning
