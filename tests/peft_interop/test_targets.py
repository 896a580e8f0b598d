"""The same words choose the same modules as in peft."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.peft_interop.toolkit import quiet
from tests.tiny_models import VIT
from torch import nn

import lumora.peft


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(2, 2)
        self.qv = nn.Linear(2, 2)
        self.mlp = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))


class Net(nn.Module):
    """Names that end alike, lists in lists, and numbers as names."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(2, 2)
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.stages = nn.ModuleList(nn.ModuleDict({"blocks": nn.ModuleList([Block(), Block()])}) for _ in range(2))
        self.fc1 = nn.Linear(2, 2)
        self.head = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


PATHS = {path: module for path, module in Net().named_modules() if path}
LINEAR = [path for path, module in PATHS.items() if isinstance(module, nn.Linear)]
ENDINGS = sorted({".".join(path.split(".")[-n:]) for path in LINEAR for n in (1, 2, 3, 4)})
REGEXES = (
    r"q",
    r".*\.q",
    r".*q.*",
    r".*\.(q|qv)",
    r"layers\.\d+\.mlp\.[02]",
    r"layers\.(0|2)\.q",
    r"(?!head).*\.0",
    r"stages\..*",
    r".*blocks\.1\..*q",
    r"head\.1|fc1",
)
KEYS = ("q", "qv", "0", "mlp.0", "head.0", "^q", "^layers.0.q", r"layers\.1\.q", r".*\.mlp\..*", r"(q|qv)", "none")

indices = st.one_of(st.integers(0, 2), st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True))
endings = st.lists(st.sampled_from(ENDINGS), min_size=1, max_size=4, unique=True)
regexes = st.sampled_from(REGEXES)
patterns = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 4), max_size=3)
configs = st.fixed_dictionaries(
    {"target_modules": st.one_of(endings, regexes)},
    optional={
        "exclude_modules": st.one_of(endings, regexes),
        "layers_to_transform": indices,
        "layers_pattern": st.sampled_from(["layers", "blocks", ["layers"], ["stages", "layers"], ["layers", "blocks"]]),
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "modules_to_save": st.sampled_from([["head"], ["fc1"], ["layers.1"], ["head.0"], ["mlp"], ["head", "mlp"]]),
    },
)


def chosen(library: Any, config: dict[str, Any]) -> Any:
    """Every adapted module with its rank and scaling, or the kind of error."""
    from importlib import import_module

    lora_layer = import_module(f"{library.__name__}.tuners.lora").LoraLayer
    torch.manual_seed(0)
    try:
        with quiet():
            model = library.get_peft_model(Net(), library.LoraConfig(**config)).get_base_model()
    except ValueError:
        return "refused"
    found = {
        path.replace(".modules_to_save.default", "").replace(".original_module", ""): (
            module.r["default"],
            float(module.scaling["default"]),
        )
        for path, module in model.named_modules()
        if isinstance(module, lora_layer)
    }
    saved = sorted(path for path, module in model.named_modules() if type(module).__name__ == "ModulesToSaveWrapper")
    return found, saved


def ends_with(path: str, entry: str) -> bool:
    return f".{path}".endswith(f".{entry}")


def asks_for_what_is_saved_whole(config: dict[str, Any]) -> bool:
    """Whether an entry means nothing but modules inside saved ones: an error here, in peft when it is the only one."""
    saved = [p for p in PATHS if any(ends_with(p, entry) for entry in config.get("modules_to_save", ()))]
    free = [p for p in PATHS if not any(f"{p}.".startswith(f"{s}.") for s in saved)]
    targets = config["target_modules"]
    return isinstance(targets, list) and not all(any(ends_with(p, entry) for p in free) for entry in targets)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(configs)
def test_choice__is_that_of_peft(config: dict[str, Any]) -> None:
    assume(not asks_for_what_is_saved_whole(config))
    assert chosen(lumora.peft, config) == chosen(peft, config)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"modules_to_save": ["head"]},
        {"modules_to_save": ["fc1", "layers.0"]},
        {"exclude_modules": ["q"]},
        {"exclude_modules": r"layers\..*"},
        {"rank_pattern": {"q": 2}},
    ],
    ids=str,
)
def test_all_linear_on_a_plain_module__is_that_of_peft(config: dict[str, Any]) -> None:
    config = {"target_modules": "all-linear", **config}
    found = chosen(lumora.peft, config)
    assert found == chosen(peft, config)
    assert len(found[0]) > 5


def vit() -> nn.Module:
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, num_labels=3)).eval()


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "all-linear", "modules_to_save": ["classifier"]},
        {"target_modules": "all-linear", "exclude_modules": ["fc2", "classifier"]},
        {"target_modules": "all-linear", "task_type": "SEQ_CLS"},
        {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"]},
        {"target_modules": ["q_proj", "fc1"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj", "fc1"], "layers_to_transform": 0, "layers_pattern": "layers"},
        {"target_modules": r".*\.1\..*_proj", "bias": "all"},
        {"target_modules": ["projection", "q_proj"], "rank_pattern": {r"layers\.1\..*": 4}},
        {"target_modules": ["v_proj", "k_proj"], "bias": "lora_only", "task_type": "SEQ_CLS"},
    ],
    ids=str,
)
def test_vit_of_transformers__is_adapted_as_by_peft(config: dict[str, Any]) -> None:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    models: list[Any] = []
    for library in (peft, lumora.peft):
        torch.manual_seed(1)
        with quiet():
            model = library.get_peft_model(vit(), library.LoraConfig(r=2, init_lora_weights=False, **config))
        models.append(model.eval())
    theirs, ours = models
    assert ours.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()
    assert sorted(ours.targeted_module_names) == sorted(theirs.targeted_module_names)
    described = [sorted((n, tuple(p.shape), p.requires_grad) for n, p in m.named_parameters()) for m in models]
    assert described[1] == described[0]
    torch.testing.assert_close(ours(pixel_values=x).logits, theirs(pixel_values=x).logits, rtol=0, atol=1e-5)


def test_all_linear_with_a_head_that_is_neither_saved_nor_excluded__adapts_it_only_in_peft() -> None:
    theirs, ours = (
        set(library.get_peft_model(vit(), library.LoraConfig(r=2, target_modules="all-linear")).targeted_module_names)
        for library in (peft, lumora.peft)
    )
    assert theirs - ours == {"classifier"}
    assert ours < theirs
