"""New adapters out of old ones, each against its formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lora.reference import (
    BY_NAME,
    Case,
    Holder,
    adapter_tensors,
    assert_close,
    configured,
    delta,
    draw,
    seeded,
    ungrouped,
)
from tests.lora.snapshot import unchanged
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import AdapterError
from lumora.lora.combine import COMBINATION_TYPES
from lumora.lora.layers import LoraLayer
from lumora.lora.states import get_base_model_state_dict

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")
WEIGHTS = {"a": 0.7, "b": -1.3, "c": 0.4}
KINDS = [
    BY_NAME[n]
    for n in ("linear", "transformers_conv1d", "conv2d_stride", "conv_transpose2d", "embedding", "conv1d_pointwise")
]


def _scalings(a: int = 2, b: int = 2, c: int = 2) -> dict[str, float]:
    """What `_three` scales adapters of these ranks with."""
    return {"a": 7 / a, "b": 3 / b**0.5, "c": 4 / c * -0.5}


def _three(case: Case, ranks: tuple[int, int, int] = (2, 2, 2)) -> PeftModel:
    """Three adapters with different scalings, one of them negative by its strength; the same every time."""
    options: list[dict[str, Any]] = [{}, {"lora_alpha": 3, "use_rslora": True}, {"lora_alpha": 4}]
    model = get_peft_model(Holder(case.layer()), configured(case, {"r": ranks[0]}), adapter_name="a")
    for name, r, more in zip("bc", ranks[1:], options[1:], strict=True):
        model.add_adapter(name, configured(case, {"r": r, **more}))
    model.set_strength("c", -0.5)
    with seeded(3):
        draw(model)
    return model.double()


def _factors(model: PeftModel, name: str) -> tuple[Tensor, Tensor]:
    tensors = adapter_tensors(model)
    a = tensors.get(f"lora_A.{name}.weight", tensors.get(f"lora_embedding_A.{name}"))
    b = tensors.get(f"lora_B.{name}.weight", tensors.get(f"lora_embedding_B.{name}"))
    assert a is not None
    assert b is not None
    return a.detach(), b.detach()


def _updates(case: Case, model: PeftModel, ranks: tuple[int, int, int] = (2, 2, 2)) -> dict[str, Tensor]:
    """Every adapter's whole update, in the shape of the weight."""
    return {n: delta(case.layer(), *_factors(model, n), scaling) for n, scaling in _scalings(*ranks).items()}


def _result(case: Case, model: PeftModel) -> Tensor:
    """What the new adapter computes; it must have alpha = rank."""
    return delta(case.layer(), *_factors(model, "new"), 1.0)


def _as_matrix(case: Case, update: Tensor) -> Tensor:
    layer = case.layer()
    if isinstance(layer, nn.ConvTranspose2d):
        update = update.transpose(0, 1)
    if isinstance(layer, nn.Embedding) or "transformers" in case.name:
        update = update.t()
    return update.flatten(1)


def _best_of_rank(matrix: Tensor, rank: int) -> Tensor:
    """By eigenvectors of M M^T, not by the decomposition under test."""
    _, vectors = torch.linalg.eigh(matrix @ matrix.t())
    leading = vectors[:, -rank:]
    return leading @ leading.t() @ matrix


def _largest(tensor: Tensor, density: float) -> Tensor:
    keep = int(density * tensor.numel())
    smallest_kept = tensor.abs().flatten().sort(descending=True).values[keep - 1]
    return torch.where(tensor.abs() >= smallest_kept, tensor, 0.0)


def _ties(tensors: list[Tensor], weights: list[float], density: float, votes: str) -> Tensor:
    kept = torch.stack([_largest(t, density) for t in tensors])
    result = torch.zeros_like(tensors[0])
    for place in torch.cartesian_prod(*(torch.arange(n) for n in result.shape)).view(-1, result.dim()):
        column = kept[(slice(None), *place)]
        ballot = column if votes == "total" else column.sign()
        sign = 1.0 if ballot.sum() >= 0 else -1.0
        agreeing = [(w, v) for w, v in zip(weights, column.tolist(), strict=True) if v * sign > 0]
        result[tuple(place)] = sum(w * v for w, v in agreeing) / max(1, len(agreeing))
    return result


def _signed_roots() -> tuple[list[float], list[float]]:
    products = [WEIGHTS[n] * scaling for n, scaling in _scalings().items()]
    roots = [abs(p) ** 0.5 for p in products]
    return [r if p > 0 else -r for r, p in zip(roots, products, strict=True)], roots


def _combine(model: PeftModel, kind: str, names: str = "abc", **options: Any) -> None:
    weights = [WEIGHTS[n] for n in names]
    model.add_weighted_adapter(list(names), weights, "new", combination_type=kind, **options)


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_cat__is_the_weighted_sum_of_the_updates(case: Case) -> None:
    model = _three(case, (2, 4, 1))
    _combine(model, "cat")
    assert model.base_model.model.layer.r["new"] == 7
    expected = sum(WEIGHTS[n] * update for n, update in _updates(case, model, (2, 4, 1)).items())
    assert_close(_result(case, model), expected)


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_linear__weighs_both_factors(case: Case) -> None:
    model = _three(case)
    _combine(model, "linear")
    signed, roots = _signed_roots()
    factors = [_factors(model, n) for n in "abc"]
    a, b = _factors(model, "new")
    assert_close(a, sum(w * f[0] for w, f in zip(signed, factors, strict=True)))
    assert_close(b, sum(w * f[1] for w, f in zip(roots, factors, strict=True)))


def test_linear__of_one_adapter_is_its_weighted_update() -> None:
    case = BY_NAME["linear"]
    for name in "abc":
        model = _three(case)
        _combine(model, "linear", name)
        assert_close(_result(case, model), WEIGHTS[name] * _updates(case, model)[name])


@pytest.mark.parametrize("rank", [1, 3, None], ids=["one", "three", "largest"])
@pytest.mark.parametrize("case", KINDS, ids=str)
def test_svd__is_the_best_approximation_of_the_weighted_sum(case: Case, rank: int | None) -> None:
    model = _three(case, (2, 3, 1))
    _combine(model, "svd", svd_rank=rank)
    total = _as_matrix(case, sum(WEIGHTS[n] * u for n, u in _updates(case, model, (2, 3, 1)).items()))
    assert model.base_model.model.layer.r["new"] == (rank or 3)
    assert_close(_as_matrix(case, _result(case, model)), _best_of_rank(total, rank or 3))


def test_svd__with_more_rank_than_the_layer_has_is_exact() -> None:
    case = BY_NAME["linear"]
    model = _three(case)
    _combine(model, "svd", svd_rank=50, svd_full_matrices=False)
    assert model.base_model.model.layer.r["new"] == 5
    assert_close(_result(case, model), sum(WEIGHTS[n] * u for n, u in _updates(case, model).items()))


def test_svd_clamp__limits_the_factors_at_a_quantile() -> None:
    case = BY_NAME["linear"]
    whole, clamped = _three(case), _three(case)
    _combine(whole, "svd", svd_rank=3)
    _combine(clamped, "svd", svd_rank=3, svd_clamp=0.8)
    a, b = _factors(whole, "new")
    limit = torch.cat([b.flatten(), a.flatten()]).quantile(0.8)
    for ours, theirs in zip(_factors(clamped, "new"), (a, b), strict=True):
        assert_close(ours, theirs.clamp(-limit, limit))


@pytest.mark.parametrize("density", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("case", KINDS, ids=str)
def test_magnitude_prune__keeps_the_largest_values(case: Case, density: float) -> None:
    model = _three(case)
    _combine(model, "magnitude_prune", density=density)
    signed, roots = _signed_roots()
    for i, weights in enumerate((signed, roots)):
        factors = [_largest(_factors(model, n)[i], density) for n in "abc"]
        assert_close(_factors(model, "new")[i], sum(w * f for w, f in zip(weights, factors, strict=True)))


@pytest.mark.parametrize("votes", ["total", "frequency"])
@pytest.mark.parametrize("case", [BY_NAME["linear"], BY_NAME["conv1d_pointwise"]], ids=str)
def test_ties__averages_what_agrees_with_the_majority(case: Case, votes: str) -> None:
    model = _three(case)
    _combine(model, "ties", density=0.7, majority_sign_method=votes)
    for i, weights in enumerate(_signed_roots()):
        expected = _ties([_factors(model, n)[i] for n in "abc"], weights, 0.7, votes)
        assert_close(_factors(model, "new")[i], expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("magnitude_prune_svd", lambda ts, ws: sum(w * _largest(t, 0.6) for t, w in zip(ts, ws, strict=True))),
        ("ties_svd", lambda ts, ws: _ties(ts, ws, 0.6, "total")),
    ],
    ids=["magnitude_prune_svd", "ties_svd"],
)
@pytest.mark.parametrize("case", [BY_NAME["linear"], BY_NAME["conv_transpose2d"]], ids=str)
def test_svd_forms__thin_out_whole_updates(case: Case, kind: str, expected: Callable[..., Tensor]) -> None:
    model = _three(case, (2, 3, 1))
    _combine(model, kind, density=0.6, svd_rank=2)
    updates = [_as_matrix(case, u) for u in _updates(case, model, (2, 3, 1)).values()]
    total = expected(updates, list(WEIGHTS.values()))
    assert_close(_as_matrix(case, _result(case, model)), _best_of_rank(total, 2))


@pytest.mark.parametrize("kind", ["dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd"])
def test_dare__with_everything_kept_is_the_method_without_dare(kind: str) -> None:
    case = BY_NAME["linear"]
    model, other = _three(case), _three(case)
    _combine(model, kind, density=1.0, svd_rank=5)
    plain = {"dare_linear": "linear", "dare_ties": "ties", "dare_linear_svd": "svd", "dare_ties_svd": "ties_svd"}[kind]
    _combine(other, plain, density=1.0, svd_rank=5)
    assert_close(_result(case, model), _result(case, other))


def test_dare_linear__keeps_a_random_share_and_its_expectation() -> None:
    case = BY_NAME["linear"]
    model = _three(case)
    mean, n = torch.zeros(6, 5, dtype=torch.float64), 200
    for i in range(n):
        model.add_weighted_adapter(["a"], [1.0], f"n{i}", combination_type="dare_linear_svd", density=0.5, svd_rank=5)
        mean += delta(case.layer(), *_factors_of(model, f"n{i}"), 1.0) / n
        model.delete_adapter(f"n{i}")
    expected = _updates(case, model)["a"]
    # Each value is doubled or dropped: its spread is its own size.
    assert ((mean - expected).abs() <= 5 * expected.abs() / n**0.5 + 1e-9).all()


def _factors_of(model: PeftModel, name: str) -> tuple[Tensor, Tensor]:
    layer = model.base_model.model.layer
    return layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach()


def test_dare__repeats_with_the_seed() -> None:
    case = BY_NAME["linear"]
    results = []
    for _ in range(2):
        model = _three(case)
        torch.manual_seed(3)
        _combine(model, "dare_linear", density=0.5)
        results.append(_result(case, model))
    assert torch.equal(*results)


# --- layers that are no one matrix -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "cat"])
@pytest.mark.parametrize("name", ["conv2d_grouped", "conv2d_depthwise", "conv_transpose2d_grouped"])
def test_grouped_convolution__is_combined_by_its_factors(name: str, kind: str) -> None:
    case = BY_NAME[name]
    model = _three(case, (case.rank, case.rank, case.rank))
    _combine(model, kind, "ab" if kind == "cat" else "a")
    layer, scalings = ungrouped(case.layer()), _scalings(*[case.rank] * 3)
    used = "ab" if kind == "cat" else "a"
    expected = sum(WEIGHTS[n] * delta(layer, *_factors(model, n), scalings[n]) for n in used)
    assert_close(delta(layer, *_factors(model, "new"), 1.0), expected)


@pytest.mark.parametrize("kind", ["linear", "cat"])
def test_separate_attention__is_combined_by_its_factors(kind: str) -> None:
    case = BY_NAME["attention_separate"]
    model = _three(case)
    _combine(model, kind, "ab" if kind == "cat" else "a")
    args, _ = case.call()
    model.set_adapter("new")
    output = model(*args)
    for name in "ab":
        model.set_strength(name, WEIGHTS[name])
    model.base_model.set_adapter(["a"] if kind == "linear" else ["a", "b"])
    assert_close(output, model(*args))


@pytest.mark.parametrize("kind", ["svd", "ties_svd"])
@pytest.mark.parametrize(
    ("name", "reason"), [("conv2d_depthwise", "layer: .*4 groups"), ("attention_separate", "layer has several weights")]
)
def test_whole_updates__of_layers_that_have_none_are_refused(name: str, reason: str, kind: str) -> None:
    case = BY_NAME[name]
    model = _three(case, (case.rank, case.rank, case.rank))
    with unchanged(model), pytest.raises(AdapterError, match=reason):
        _combine(model, kind, density=0.5)
    with unchanged(model), pytest.raises(AdapterError, match=reason):
        model.compress_adapter("a", "small", rank=1)


# --- the new adapter in its model ------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleDict({"fc": nn.Linear(6, 6), "up": nn.Linear(6, 6)}) for _ in range(2)])
        self.fc = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block["up"](block["fc"](x))
        return self.head(self.fc(x))


def _net(**configs: dict[str, Any]) -> PeftModel:
    (first, options), *others = configs.items()
    model = get_peft_model(Net(), LoraConfig(**{"r": 2, **options}), adapter_name=first)
    for name, more in others:
        model.add_adapter(name, LoraConfig(**{"r": 2, **more}))
    draw(model)
    return model


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"target_modules": ["fc"]}, {"target_modules": ["up"]}),
        ({"target_modules": ["fc", "up"]}, {"target_modules": ["up"], "r": 3}),
        ({"target_modules": r"blocks\.0\..*"}, {"target_modules": r"blocks\.1\..*"}),
        ({"target_modules": ["fc"], "exclude_modules": ["blocks.0.fc"]}, {"target_modules": ["up"]}),
        (
            {"target_modules": ["fc"], "layers_to_transform": [0], "layers_pattern": "blocks"},
            {"target_modules": ["fc"], "layers_to_transform": [1], "layers_pattern": "blocks"},
        ),
        ({"target_modules": ["fc"], "exclude_modules": r"blocks.*"}, {"target_modules": ["up"], "r": 4}),
        ({"target_modules": ["blocks.0.fc"], "bias": "lora_only"}, {"target_modules": "all-linear"}),
    ],
    ids=["other words", "other ranks", "expressions", "exclusions", "blocks", "one path of many", "biases"],
)
def test_combination__is_read_back_from_its_files(a: dict[str, Any], b: dict[str, Any], tmp_path: Path) -> None:
    model = _net(a=a, b=b)
    model.add_weighted_adapter(["a", "b"], [0.5, 2.0], "new", combination_type="cat")
    model.set_adapter("new")
    x = torch.randn(3, 6)
    model.save_pretrained(tmp_path, selected_adapters=["new"])
    base = model.get_base_model()
    plain = Net()
    plain.load_state_dict(get_base_model_state_dict(base))
    loaded = PeftModel.from_pretrained(plain, tmp_path / "new")
    assert torch.equal(loaded(x), model(x))
    adapted = [n for n, m in plain.named_modules() if isinstance(m, LoraLayer)]
    assert adapted == [n for n, m in base.named_modules() if isinstance(m, LoraLayer) and "new" in m.adapters]


def test_combination__is_added_without_becoming_active_or_trained() -> None:
    model = _net(a={"target_modules": ["fc"]}, b={"target_modules": ["up"]})
    model.add_weighted_adapter(["a", "b"], [1, 1], "new", combination_type="cat")
    assert model.active_adapters == ["a"]
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".new" in n)
    model.set_adapter("new")
    assert {p.requires_grad for n, p in model.named_parameters() if ".new" in n} == {True}


def test_combination__of_one_head_takes_a_copy_of_it() -> None:
    model = _net(a={"target_modules": ["fc"], "modules_to_save": ["head"]}, b={"target_modules": ["fc"]})
    heads = model.base_model.model.head.modules_to_save
    with torch.no_grad():
        heads["a"].weight.normal_()
    model.add_weighted_adapter(["b", "a"], [1, 1], "new", combination_type="linear")
    assert torch.equal(heads["new"].weight, heads["a"].weight)
    assert heads["new"].weight.data_ptr() != heads["a"].weight.data_ptr()
    assert model.peft_config["new"].modules_to_save == ["head"]


ERRORS = {
    "no adapters": ([], [], "svd", {}, "at least one"),
    "unknown": (["a", "x"], [1, 1], "svd", {}, "'x'"),
    "weights": (["a", "b"], [1], "svd", {}, "2 adapters and 1 weights"),
    "type": (["a", "b"], [1, 1], "sum", {}, "no combination_type 'sum'.*linear, ties"),
    "ranks": (["a", "c"], [1, 1], "linear", {}, r"equal ranks; blocks\.0\.fc has {'a': 2, 'c': 4}"),
    "no density": (["a", "b"], [1, 1], "ties", {}, "needs density"),
    "density": (["a", "b"], [1, 1], "dare_linear_svd", {"density": 1.5}, "between 0 and 1"),
    "votes": (["a", "b"], [1, 1], "ties", {"density": 0.5, "majority_sign_method": "loudest"}, "'loudest'"),
    "svd_rank": (["a", "b"], [1, 1], "svd", {"svd_rank": 0}, "svd_rank is 0"),
    "heads": (["h", "i"], [1, 1], "svd", {}, r"\['h', 'i'\] each bring their own head"),
    "dora": (["a", "d"], [1, 1], "cat", {}, r"\['d'\] use DoRA or lora_bias at blocks\.0\.fc"),
    "lora_bias": (["a", "l"], [1, 1], "cat", {}, r"\['l'\] use DoRA or lora_bias"),
}


@pytest.mark.parametrize(("names", "weights", "kind", "options", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_mistake__is_named_and_nothing_is_added(
    names: list[str], weights: list[float], kind: str, options: dict[str, Any], message: str
) -> None:
    fc = {"target_modules": ["fc"]}
    model = _net(
        a=fc,
        b=fc,
        c={**fc, "r": 4},
        d={**fc, "use_dora": True},
        l={**fc, "lora_bias": True},
        h={**fc, "modules_to_save": ["head"]},
        i={**fc, "modules_to_save": ["head"]},
    )
    configs = dict(model.peft_config)
    with unchanged(model), pytest.raises(ValueError, match=message):
        model.add_weighted_adapter(names, weights, "new", combination_type=kind, **options)
    assert model.peft_config == configs


@pytest.mark.parametrize("name", ["a", "a.b", "training", ""])
def test_name__that_is_taken_or_cannot_be_is_refused(name: str) -> None:
    model = _net(a={"target_modules": ["fc"]})
    with unchanged(model), pytest.raises(ValueError, match=r"name|called"):
        model.add_weighted_adapter(["a"], [1.0], name)
    with unchanged(model), pytest.raises(ValueError, match=r"name|called"):
        model.compress_adapter("a", name, rank=1)


def test_combination_types__are_those_that_are_documented() -> None:
    assert set(COMBINATION_TYPES) == {
        *("linear", "cat", "svd", "ties", "ties_svd", "dare_linear", "dare_linear_svd"),
        *("dare_ties", "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd"),
    }


# --- compressing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", KINDS, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 9])
def test_compress__to_a_rank_is_the_best_of_that_rank(case: Case, rank: int) -> None:
    model = _three(case, (3, 1, 1))
    kept = model.compress_adapter("a", "new", rank=rank)
    update = _as_matrix(case, delta(case.layer(), *_factors(model, "a"), 7 / 3))
    small = _as_matrix(case, _result(case, model))
    assert_close(small, _best_of_rank(update, min(rank, 3)))
    assert model.base_model.model.layer.r["new"] == min(rank, 3)
    assert kept == {"layer": pytest.approx(float(small.square().sum() / update.square().sum()))}


@pytest.mark.parametrize("case", KINDS, ids=str)
@pytest.mark.parametrize("energy", [0.3, 0.8, 0.99, 1.0])
def test_compress__keeps_the_energy_that_is_asked_for_and_no_rank_more(case: Case, energy: float) -> None:
    model = _three(case, (4, 1, 1))
    kept = model.compress_adapter("a", "new", energy=energy)["layer"]
    update = _as_matrix(case, delta(case.layer(), *_factors(model, "a"), 7 / 4))
    small = _as_matrix(case, _result(case, model))
    assert kept >= energy - 1e-9
    assert kept == pytest.approx(1 - float((update - small).square().sum() / update.square().sum()))
    power = torch.linalg.eigvalsh(update @ update.t()).flip(0).clamp_min(0)
    rank = model.base_model.model.layer.r["new"]
    assert power[: rank - 1].sum() / power.sum() < energy


def test_compress__of_different_layers_may_give_different_ranks(tmp_path: Path) -> None:
    model = _net(a={"target_modules": ["fc", "up"], "r": 4})
    layers = {n: m for n, m in model.base_model.model.named_modules() if isinstance(m, LoraLayer)}
    with torch.no_grad():
        layers["blocks.0.fc"].lora_B["a"].weight[:, 1:] = 0
        layers["fc"].lora_B["a"].weight[:, 2:] = 0
    kept = model.compress_adapter("a", "new", energy=0.9999)
    assert layers["blocks.0.fc"].r["new"] == 1
    assert layers["fc"].r["new"] == 2
    assert all(share >= 0.9999 for share in kept.values())
    assert list(kept) == list(layers)
    model.set_adapter("new")
    x = torch.randn(3, 6)
    model.save_pretrained(tmp_path, selected_adapters=["new"])
    plain = Net()
    plain.load_state_dict(get_base_model_state_dict(model.get_base_model()))
    assert torch.equal(PeftModel.from_pretrained(plain, tmp_path / "new")(x), model(x))


def test_compress__of_an_update_that_is_zero_keeps_all_of_it_in_one_rank() -> None:
    model = get_peft_model(Net(), LoraConfig(r=4, target_modules=["fc"]))
    assert set(model.compress_adapter("default", "new", energy=0.9).values()) == {1.0}
    assert {m.r["new"] for m in model.modules() if isinstance(m, LoraLayer)} == {1}


@pytest.mark.parametrize(
    "options", [{}, {"rank": 1, "energy": 0.5}, {"rank": 0}, {"energy": 0.0}, {"energy": 1.1}, {"rank": -1}], ids=str
)
def test_compress__asks_for_one_sensible_limit(options: dict[str, Any]) -> None:
    model = _net(a={"target_modules": ["fc"]})
    with unchanged(model), pytest.raises(AdapterError, match=r"rank.*energy"):
        model.compress_adapter("a", "new", **options)
