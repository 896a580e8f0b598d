"""Which modules a configuration means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lumora import LoraConfig, get_peft_model
from lumora.errors import LumoraWarning, NoMatchingPeftModuleError, TargetError
from lumora.lora.layers import LoraLayer
from lumora.lora.names import block_index
from lumora.lora.targets import base_modules, choose, ends_with, exactly, matches, pattern_value

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({n: nn.Linear(4, 4) for n in ("q_proj", "k_proj", "v_proj", "xq_proj")})
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 2)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.pooler = nn.ModuleDict({"layers": nn.ModuleList([Conv1D(4, 4)])})
        self.attention_pool = nn.MultiheadAttention(4, 2)
        self.positions = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 2)


def _chosen(model: nn.Module, **options: Any) -> list[str]:
    """The paths of the layers that really get an adapter."""
    get_peft_model(model, LoraConfig(r=2, **options))
    return [n.replace("base_layer.", "") for n, m in model.named_modules() if isinstance(m, LoraLayer)]


def _attention(blocks: range | tuple[int, ...] = range(3), *names: str) -> list[str]:
    return [f"blocks.{i}.attention.{n}" for i in blocks for n in names]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "entry", "expected"),
    [
        ("a.b.c", "c", True),
        ("a.b.c", "b.c", True),
        ("a.b.c", "a.b.c", True),
        ("c", "c", True),
        ("a.xc", "c", False),
        ("a.c.d", "c", False),
        ("a.bxc", "b.c", False),
        ("a.b.c", "", False),
    ],
)
def test_ends_with__respects_the_dots(path: str, entry: str, expected: bool) -> None:
    assert ends_with(path, entry) is expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["b"], True),
        (["x", "a.b"], True),
        (["x"], False),
        ([], False),
        (None, False),
        ("", False),
        (r".*\.b", True),
        (r"b", False),
        (r"a", False),
        (r"a.b", True),
    ],
)
def test_matches__takes_endings_or_one_expression_for_the_whole_path(wanted: Any, expected: bool) -> None:
    assert matches("a.b", wanted) is expected


def test_list__means_every_path_that_ends_so() -> None:
    assert _chosen(Tower(), target_modules=["q_proj"]) == _attention(range(3), "q_proj")


def test_list__can_name_one_module_in_full() -> None:
    assert _chosen(Tower(), target_modules=["blocks.1.mlp.2", "head"]) == ["blocks.1.mlp.2", "head"]


def test_regular_expression__matches_the_whole_path() -> None:
    assert _chosen(Tower(), target_modules=r"blocks\.[02]\..*\.(k|v)_proj") == _attention((0, 2), "k_proj", "v_proj")


def test_regular_expression__that_matches_a_part_only_finds_nothing() -> None:
    with pytest.raises(NoMatchingPeftModuleError, match=r"matches 'q_proj'"):
        _chosen(Tower(), target_modules="q_proj")


def test_attention__is_adapted_with_its_output_projection() -> None:
    assert _chosen(Tower(), target_modules=["attention_pool"]) == ["attention_pool", "attention_pool.out_proj"]


def test_attention__named_beside_its_output_projection_is_adapted_once() -> None:
    assert _chosen(Tower(), target_modules=["attention_pool", "out_proj", "head"]) == [
        "attention_pool",
        "attention_pool.out_proj",
        "head",
    ]


def test_output_projection_alone__is_refused_with_the_hint() -> None:
    with pytest.raises(TargetError, match=r"attention_pool\.out_proj: .*target 'attention_pool' and both projections"):
        _chosen(Tower(), target_modules=["head", "out_proj"])


@pytest.mark.parametrize(
    ("entry", "hint"),
    [("qproj", "'q_proj'"), ("heads", "'head'"), ("atention_pool", "'attention_pool'"), ("blocks.0.mpl.0", "")],
)
def test_entry_that_matches_nothing__is_refused_with_the_nearest_names(entry: str, hint: str) -> None:
    with pytest.raises(TargetError, match=rf"nothing is called '{entry}'.*{hint}"):
        _chosen(Tower(), target_modules=["k_proj", entry])


# --- all-linear ------------------------------------------------------------------------------------------------------

LINEAR = [
    *(f"blocks.{i}.{n}" for i in range(3) for n in ("attention.q_proj", "attention.k_proj", "attention.v_proj")),
    *(f"blocks.{i}.{n}" for i in range(3) for n in ("attention.xq_proj", "mlp.0", "mlp.2")),
    "pooler.layers.0",
    "attention_pool",
    "attention_pool.out_proj",
]


@pytest.mark.parametrize("word", ["all-linear", "ALL-LINEAR"])
def test_all_linear__is_every_linear_layer_of_a_plain_model(word: str) -> None:
    assert sorted(_chosen(Tower(), target_modules=word)) == sorted([*LINEAR, "head"])


def test_all_linear__leaves_out_what_is_saved_whole_and_what_is_excluded() -> None:
    chosen = _chosen(Tower(), target_modules="all-linear", modules_to_save=["head"], exclude_modules=["mlp.0"])
    assert sorted(chosen) == sorted(p for p in LINEAR if not p.endswith("mlp.0"))


def test_all_linear__leaves_out_the_head_of_a_transformers_model() -> None:
    model = Tower()
    model.config, model.num_labels = SimpleNamespace(model_type="unheard_of"), 2  # type: ignore[assignment]
    assert sorted(_chosen(model, target_modules="all-linear")) == sorted(LINEAR)


def test_all_linear__leaves_out_the_output_embeddings() -> None:
    model = Tower()
    model.get_output_embeddings = lambda: model.blocks[0].mlp[0]  # type: ignore[assignment]
    assert "blocks.0.mlp.0" not in _chosen(model, target_modules="all-linear")


def test_all_linear__does_not_reach_what_merely_ends_alike() -> None:
    """As endings, the paths of the linear layers would also mean a convolution called "0" somewhere else."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert _chosen(model, target_modules="all-linear") == ["0"]
    again = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert _chosen(again, target_modules=model.peft_config["default"].target_modules) == ["0"]  # type: ignore[union-attr]


def test_exactly__is_a_list_where_that_is_enough_and_else_an_expression() -> None:
    paths = ["fc", "block.fc", "block.0", "a.b+c"]
    assert exactly(["fc", "block.fc"], paths) == {"fc", "block.fc"}
    for wanted in (["fc"], ["fc", "a.b+c"]):
        written = exactly(wanted, paths)
        assert isinstance(written, str)
        assert [p for p in paths if matches(p, written)] == wanted


# --- leaving out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", [["blocks.1.attention.q_proj"], r"blocks\.1\..*"], ids=["list", "expression"])
def test_exclude_modules__wins(exclude: Any) -> None:
    assert _chosen(Tower(), target_modules=["q_proj"], exclude_modules=exclude) == _attention((0, 2), "q_proj")


@pytest.mark.parametrize("exclude", [["q_proj"], r".*q_proj"], ids=["list", "expression"])
def test_exclude_modules__of_everything_says_so(exclude: Any) -> None:
    with pytest.raises(NoMatchingPeftModuleError, match=r"matched 3 modules.*leaves out every one"):
        _chosen(Tower(), target_modules=["q_proj"], exclude_modules=exclude)


def test_modules_to_save__are_not_adapted_inside() -> None:
    assert _chosen(Tower(), target_modules=["q_proj"], modules_to_save=["blocks.1"]) == _attention((0, 2), "q_proj")


@pytest.mark.parametrize(
    ("indices", "pattern", "expected"),
    [
        (0, "blocks", (0,)),
        ([0, 2], "blocks", (0, 2)),
        ([1], ["layers", "blocks"], (1,)),
        (range(1, 3), ["blocks"], (1, 2)),
    ],
)
def test_layers_to_transform__picks_blocks(indices: Any, pattern: Any, expected: tuple[int, ...]) -> None:
    options = {"layers_to_transform": indices, "layers_pattern": pattern}
    assert _chosen(Tower(), target_modules=["q_proj"], **options) == _attention(expected, "q_proj")


def test_layers_to_transform__finds_the_list_by_itself_below_the_top() -> None:
    chosen = _chosen(nn.ModuleDict({"model": Tower()}), target_modules=["q_proj"], layers_to_transform=[0, 2])
    assert chosen == [f"model.{path}" for path in _attention((0, 2), "q_proj")]


def test_layers_to_transform__of_a_list_at_the_top_asks_for_its_name() -> None:
    with pytest.raises(NoMatchingPeftModuleError, match="try layers_pattern with the name of the list"):
        _chosen(Tower(), target_modules=["q_proj"], layers_to_transform=[1])


def test_layers_to_transform__outside_the_model_leaves_nothing() -> None:
    with pytest.raises(NoMatchingPeftModuleError, match="layers_to_transform leaves out every one"):
        _chosen(Tower(), target_modules=["q_proj"], layers_to_transform=[7])


def test_layers_pattern__counts_the_named_list_only() -> None:
    with pytest.raises(NoMatchingPeftModuleError):
        _chosen(Tower(), target_modules=["q_proj"], layers_to_transform=[0], layers_pattern="layers")


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("model.blocks.3.mlp.fc1", None, 3),
        ("blocks.3.mlp.fc1", None, None),
        ("model.blocks.0.attention.1.q", None, 0),
        ("blocks.3.mlp.fc1", "blocks", 3),
        ("my_blocks.3.mlp.fc1", "blocks", None),
        ("a.blocks.12.q", ["layers", "blocks"], 12),
        ("a.layers.q", ["layers"], None),
        ("blocks.3", "blocks", None),
    ],
)
def test_block_index__reads_the_number_after_the_list(path: str, pattern: Any, expected: int | None) -> None:
    assert block_index(path, pattern) == expected


# --- ranks and alphas ------------------------------------------------------------------------------------------------


def test_rank_and_alpha_patterns__decide_by_the_first_that_matches() -> None:
    model = Tower()
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "xq_proj"],
        rank_pattern={r"blocks\.1\..*": 2, "q_proj": 6},
        alpha_pattern={"v_proj": 5, r"^blocks\.2\.attention\.q_proj": 3, r"^attention\.q_proj": 1000},
    )
    with pytest.warns(LumoraWarning, match=r"no target matches: \['\^attention"):
        get_peft_model(model, config)
    found = {n: (m.r["default"], m.lora_alpha["default"]) for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    assert found == {
        **{f"blocks.{i}.attention.q_proj": (r, a) for i, r, a in ((0, 6, 8), (1, 2, 8), (2, 6, 3))},
        **{f"blocks.{i}.attention.v_proj": (r, 5) for i, r in ((0, 4), (1, 2), (2, 4))},
        **{f"blocks.{i}.attention.xq_proj": (r, 8) for i, r in ((0, 4), (1, 2), (2, 4))},
    }


@pytest.mark.parametrize(
    ("key", "path", "matched"),
    [
        ("q", "a.q", True),
        ("q", "a.xq", False),
        ("a.q", "b.a.q", True),
        ("^a.q", "b.a.q", False),
        ("^a.q", "a.q", True),
        (r".*q", "a.xq", True),
        ("a", "a.q", False),
        ("q|k", "a.k", True),
    ],
)
def test_pattern_value__takes_endings_and_expressions(key: str, path: str, matched: bool) -> None:
    assert pattern_value(path, {key: 5}, 1) == (5 if matched else 1)


def test_attention__gives_its_rank_to_its_output_projection() -> None:
    model = Tower()
    get_peft_model(model, LoraConfig(r=4, target_modules=["attention_pool"], rank_pattern={"attention_pool": 2}))
    assert [m.r["default"] for m in model.modules() if isinstance(m, LoraLayer)] == [2, 2]


# --- a model that is adapted already ---------------------------------------------------------------------------------


def test_base_modules__have_the_paths_that_they_had() -> None:
    model = Tower()
    before = [path for path, _ in base_modules(model)]
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "attention_pool"], modules_to_save=["head"]))
    assert [path for path, _ in base_modules(model)] == before


def test_second_adapter__finds_the_same_layers() -> None:
    model = Tower()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    first = adapted.targeted_module_names
    adapted.add_adapter("second", LoraConfig(r=2, target_modules="all-linear"))
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    assert all(list(layer.adapters) == ["default", "second"] for layer in layers)
    assert adapted.targeted_module_names == first


def test_targeted_module_names__are_those_that_were_asked_for() -> None:
    model = get_peft_model(Tower(), LoraConfig(r=2, target_modules=["attention_pool", "mlp.0"]))
    assert model.targeted_module_names == ["blocks.0.mlp.0", "blocks.1.mlp.0", "blocks.2.mlp.0", "attention_pool"]


def test_choose__reading_a_file_takes_what_is_there() -> None:
    """An old file may name modules that only another version of the model has; a new configuration may not."""
    config = LoraConfig(r=2, target_modules=["q_proj", "gone"], modules_to_save=["also_gone"])
    assert len(choose(Tower(), config).problems) == 2
    lenient = choose(Tower(), config, strict=False)
    assert not lenient.problems
    assert len(lenient.notes) == 2
    assert [t.path for t in lenient.targets] == _attention(range(3), "q_proj")


def test_renamed_layers__are_found_by_their_old_names_with_a_note() -> None:
    model = Tower()
    with pytest.warns(LumoraWarning, match="'query' is called 'q_proj' in this version"):
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "head"]))
    assert adapted.targeted_module_names == [*_attention(range(3), "q_proj"), "head"]
    assert adapted.peft_config["default"].target_modules == {"q_proj", "head"}


def test_root_itself__cannot_be_a_target() -> None:
    class Root(nn.Linear):
        pass

    with pytest.raises(NoMatchingPeftModuleError, match="none that can be adapted"):
        get_peft_model(Root(4, 4), LoraConfig(target_modules=["weight"]))
    assert torch.is_tensor(Root(4, 4)(torch.ones(4)))


def test_model_with_none_in_place_of_a_module__is_walked_over() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_module("shortcut", None)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    assert _chosen(Optional(), target_modules=["fc"]) == ["fc"]
