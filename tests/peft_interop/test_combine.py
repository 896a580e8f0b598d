"""Weighted combinations are those that peft makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.peft_interop.toolkit import LIBRARIES, adapted, quiet, sample_for, tiny

import lumora.peft

TYPES = ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune")
TYPES = (*TYPES, *(f"{name}_svd" for name in TYPES[3:]))
# Today's peft fails on the svd forms of Conv1d and Conv3d; MultiheadAttention differs by its output projection.
BROKEN = {(kind, name) for kind in ("Conv1d", "Conv3d") for name in TYPES if name.endswith("svd")}
KINDS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "Embedding", "Conv1D")
CASES = [(kind, name) for kind in KINDS for name in TYPES if (kind, name) not in BROKEN]
WEIGHTS = ([0.7, 0.4], [0.7, -0.4])


def with_two(library: Any, kind: str, ranks: tuple[int, int] = (2, 2)) -> Any:
    model = adapted(library, tiny(kind), r=ranks[0], target_modules=["layer"], init_lora_weights=False)
    with quiet():
        second = library.LoraConfig(r=ranks[1], lora_alpha=6, target_modules=["layer"], init_lora_weights=False)
        model.add_adapter("second", second)
    return model


def combined(library: Any, kind: str, weights: list[float], ranks: tuple[int, int] = (2, 2), **options: Any) -> Any:
    model = with_two(library, kind, ranks)
    with quiet():
        model.add_weighted_adapter(["default", "second"], weights, "new", **options)
    model.set_adapter("new")
    return model.eval()


def assert_same(theirs: Any, ours: Any, kind: str) -> None:
    x = sample_for(kind)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    for field in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"):
        assert getattr(ours.peft_config["new"], field) == getattr(theirs.peft_config["new"], field), field
    shapes = [
        sorted((k, *v.shape) for k, v in library.get_peft_model_state_dict(model, adapter_name="new").items())
        for library, model in ((peft, theirs), (lumora.peft, ours))
    ]
    assert shapes[1] == shapes[0]


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_combination__is_that_of_peft(kind: str, name: str, weights: list[float]) -> None:
    thinned = name.removesuffix("_svd") not in ("linear", "cat", "svd")
    densities = (None,) if not thinned else (1.0,) if name.startswith("dare") else (1.0, 0.5)
    for density in densities:
        options = {"combination_type": name, "density": density}
        theirs, ours = (combined(library, kind, weights, **options) for library in (peft, lumora.peft))
        assert_same(theirs, ours, kind)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"])
@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_dare__drops_the_same_values_from_the_same_random_state(kind: str, name: str) -> None:
    options = {"combination_type": name, "density": 0.5}
    # peft first draws factors for the new adapter, and forgets them
    rehearsal = with_two(peft, kind)
    torch.manual_seed(3)
    rehearsal.add_adapter("new", peft.LoraConfig(r=2, target_modules=["layer"], init_lora_weights=False))
    after = torch.get_rng_state()
    theirs, ours = with_two(peft, kind), with_two(lumora.peft, kind)
    torch.manual_seed(3)
    theirs.add_weighted_adapter(["default", "second"], [0.7, 0.4], "new", **options)
    torch.set_rng_state(after)
    ours.add_weighted_adapter(["default", "second"], [0.7, 0.4], "new", **options)
    for model in (theirs, ours):
        model.set_adapter("new")
        model.eval()
    assert_same(theirs, ours, kind)


@pytest.mark.parametrize(
    "options",
    [
        {"combination_type": "cat"},
        {"combination_type": "svd"},
        {"combination_type": "svd", "svd_rank": 1},
        {"combination_type": "svd", "svd_rank": 1, "svd_full_matrices": False},
        {"combination_type": "svd", "svd_clamp": 0.8},
        {"combination_type": "ties_svd", "density": 0.6, "majority_sign_method": "frequency"},
        {"combination_type": "magnitude_prune_svd", "density": 0.3, "svd_rank": 3},
    ],
    ids=str,
)
def test_unequal_ranks_and_options__combine_as_in_peft(options: dict[str, Any]) -> None:
    theirs, ours = (combined(library, "Linear", [0.5, 1.5], (2, 3), **options) for library in (peft, lumora.peft))
    assert_same(theirs, ours, "Linear")


@pytest.mark.parametrize("name", ["ties", "dare_ties", "ties_svd"])
@pytest.mark.parametrize("method", ["total", "frequency"])
def test_sign_elections__are_those_of_peft(name: str, method: str) -> None:
    options = {"combination_type": name, "density": 1.0, "majority_sign_method": method}
    theirs, ours = (combined(library, "Linear", [0.5, 1.5], **options) for library in (peft, lumora.peft))
    assert_same(theirs, ours, "Linear")


@pytest.mark.parametrize("name", ["linear", "cat", "svd"])
@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
def test_combination_saved_by_one__loads_in_the_other(tmp_path: Path, writer: Any, name: str) -> None:
    x = sample_for("Linear")
    model = combined(writer, "Linear", [0.7, 0.4], combination_type=name)
    reader = lumora.peft if writer is peft else peft
    with quiet():
        model.save_pretrained(tmp_path, selected_adapters=["new"])
        again = reader.PeftModel.from_pretrained(tiny("Linear"), tmp_path / "new").eval()
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=1e-6)
