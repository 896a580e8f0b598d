"""Each sample of a batch through its own adapter, compared with running it alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.lora.reference import BY_NAME, CASES, Case, Holder, assert_close, configured, draw, tensors_in
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import RoutingError
from lumora.lora.routing import BASE, Route

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")
NAMES = ["b", "a", BASE, "a", "c", "b"]
ROUTED = [
    case
    for case in CASES
    if not any(word in case.name for word in ("unbatched", "attention", "vector", "whole_output", "mask", "padding"))
] + [
    BY_NAME[name]
    for name in (
        "attention_batch_first",
        "attention_memory_batch_first",
        "attention_separate_batch_first_without_bias",
        "attention_zero_attn",
    )
]


def _three_adapters(case: Case) -> PeftModel:
    """A plain adapter, a DoRA one of another rank, and one with a bias where that can be."""
    third = {} if "embedding" in case.name else {"lora_bias": True}
    model = get_peft_model(Holder(case.layer()), configured(case, {}), adapter_name="a")
    model.add_adapter("b", configured(case, {"use_dora": True, "r": 2 * case.rank}))
    model.add_adapter("c", configured(case, {"lora_alpha": 3, **third}))
    draw(model)
    return model.eval()


def _alone(model: PeftModel, name: str, *args: Any) -> Any:
    if name == BASE:
        with model.disable_adapter():
            return model(*args)
    model.set_adapter(name)
    return model(*args)


def _batch(case: Case) -> tuple[Tensor, ...]:
    """Inputs like the case's, with as many samples as there are names; what was one tensor twice stays so."""
    done: dict[Tensor, Tensor] = {}
    for arg in (args := case.call()[0]):
        many = torch.cat([arg.detach()] * len(NAMES))[: len(NAMES)]
        done[arg] = torch.randn_like(many) if many.is_floating_point() else many.roll(1)
    return tuple(done[arg] for arg in args)


@pytest.mark.parametrize("case", ROUTED, ids=str)
def test_routed_batch__equals_every_sample_alone(case: Case) -> None:
    model = _three_adapters(case)
    args = _batch(case)
    output = tensors_in(model(*args, adapter_names=NAMES))
    for i, name in enumerate(NAMES):
        alone = tensors_in(_alone(model, name, *(a[i : i + 1] for a in args)))
        for ours, theirs in zip(output, alone, strict=True):
            assert_close(ours[i : i + 1], theirs)


def test_routed_batch__goes_through_each_samples_own_head() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 5)
            self.head = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    config = LoraConfig(r=2, target_modules=["body"], modules_to_save=["head"])
    model = get_peft_model(Net(), config, adapter_name="a")
    model.add_adapter("b", config)
    model.add_adapter("c", LoraConfig(r=2, target_modules=["body"]))
    draw(model)
    with torch.no_grad():
        for head in model.base_model.model.head.modules_to_save.values():
            for parameter in head.parameters():
                parameter.normal_()
    model.eval()
    x = torch.randn(len(NAMES), 4)
    output = model(x, adapter_names=NAMES)
    for i, name in enumerate(NAMES):
        torch.testing.assert_close(output[i : i + 1], _alone(model, name, x[i : i + 1]))
    with model.disable_adapter():
        torch.testing.assert_close(model(x, adapter_names=NAMES), _alone(model, BASE, x))


class _Decoder(nn.Module):
    """A head that takes a tuple of feature maps and keywords, and gives several tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, features: tuple[Tensor, Tensor], *, scale: Tensor, times: int) -> dict[str, Any]:
        y = self.first(features[0]) + self.second(features[1])
        return {"y": y * scale[:, None] * times, "more": (y.sum(1), None)}


class _Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.decode_head = nn.Linear(3, 3), _Decoder()

    def forward(self, x: Tensor, z: Tensor) -> dict[str, Any]:
        return self.decode_head((self.body(x), z), scale=z[:, 0], times=2)


def test_routed_head__takes_and_gives_nested_tensors() -> None:
    config = LoraConfig(r=2, target_modules=["body"], modules_to_save=["decode_head"])
    model = get_peft_model(_Pyramid(), config, adapter_name="a")
    model.add_adapter("b", config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.eval()
    x, z, names = torch.randn(4, 3), torch.randn(4, 4), ["b", "a", BASE, "b"]
    output = model(x, z, adapter_names=names)
    for i, name in enumerate(names):
        alone = _alone(model, name, x[i : i + 1], z[i : i + 1])
        torch.testing.assert_close(output["y"][i : i + 1], alone["y"])
        torch.testing.assert_close(output["more"][0][i : i + 1], alone["more"][0])
        assert output["more"][1] is None


def test_routed_head__with_something_that_has_no_samples_is_refused() -> None:
    class Head(nn.Module):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return x @ table

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, 3), Head()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x), torch.ones(3, 2))

    model = get_peft_model(Net(), LoraConfig(r=2, target_modules=["body"], modules_to_save=["head"])).eval()
    assert model(torch.randn(4, 3)).shape == (4, 2)
    with pytest.raises(RoutingError, match=r"Head is called with tensors of \[3, 4\]"):
        model(torch.randn(4, 3), adapter_names=["default"] * 4)


def _linear_model(*names: str, base: nn.Module | None = None) -> PeftModel:
    config = LoraConfig(r=2, target_modules=["layer"])
    model = get_peft_model(base or Holder(nn.Linear(4, 3)), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    draw(model)
    return model.eval()


class _Windows(nn.Module):
    """Cuts every sample into windows, as Swin does: (B, N, C) -> (B * windows, N / windows, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        return self.layer(x.reshape(b * 2, n // 2, 4)).reshape(b, n, 3)


class _Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@pytest.mark.parametrize("base", [_Windows, _Flattened])
def test_routed_batch__keeps_several_entries_of_a_sample_together(base: type[nn.Module]) -> None:
    model = _linear_model("a", "b", base=base())
    x, names = torch.randn(3, 10, 4), ["b", BASE, "a"]
    output = model(x, adapter_names=names)
    for i, name in enumerate(names):
        torch.testing.assert_close(output[i : i + 1], _alone(model, name, x[i : i + 1]))


class _Positions(nn.Module):
    """Adds embeddings of the positions, whose batch is one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Embedding(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(torch.arange(x.shape[1])[None])


class _ProjectedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 5, 4))
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.table)


@pytest.mark.parametrize("base", [_Positions, _ProjectedPositions])
def test_routed_batch__gives_every_sample_its_own_position_embedding(base: type[nn.Module]) -> None:
    model = _linear_model("a", "b", base=base())
    x, names = torch.randn(4, 5, 4), ["b", BASE, "a", "b"]
    output = model(x, adapter_names=names)
    for i, name in enumerate(names):
        torch.testing.assert_close(output[i : i + 1], _alone(model, name, x[i : i + 1]))


class _Calls(nn.Module):
    """Calls its layer with something that a test gives."""

    def __init__(self, layer: nn.Module, inside: Tensor, sequence_first: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.inside = inside
        self.attention = nn.MultiheadAttention(4, 2) if sequence_first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.layer(self.inside)
        return x


@pytest.mark.parametrize(
    ("inside", "sequence_first"),
    [
        pytest.param(torch.randn(8, 4, 4), False, id="tokens_before_samples"),
        pytest.param(torch.randn(4, 4, 4), True, id="as_many_tokens_as_samples"),
        pytest.param(torch.randn(8, 4), True, id="flattened_where_tokens_may_come_first"),
        pytest.param(torch.randn(7, 4), False, id="no_multiple"),
        pytest.param(torch.randn(1, 7, 7, 4), False, id="table_of_relative_positions"),
        pytest.param(torch.randn(4), False, id="a_single_vector"),
        pytest.param(torch.arange(8), False, id="positions"),
        pytest.param(torch.zeros(8, 8, dtype=torch.long), False, id="table_of_indices"),
    ],
)
def test_routed_batch__refuses_a_layer_whose_input_may_not_count_samples(inside: Tensor, sequence_first: bool) -> None:
    layer = nn.Linear(4, 3) if inside.is_floating_point() else nn.Embedding(9, 3)
    model = _linear_model("a", base=_Calls(layer, inside, sequence_first))
    x = torch.randn(4, 2)
    model(x)
    with pytest.raises(RoutingError, match="may not count samples"):
        model(x, adapter_names=["a"] * 4)
    assert torch.equal(model(x), x)


def test_routed_attention__inside_a_model_that_turns_samples_and_tokens_around() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.MultiheadAttention(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(0, 1)
            return self.layer(x, x, x)[0].transpose(0, 1)

    model = _linear_model("a", "b", base=Net())
    x, names = torch.randn(3, 5, 4), ["b", BASE, "a"]
    output = model(x, adapter_names=names)
    for i, name in enumerate(names):
        torch.testing.assert_close(output[i : i + 1], _alone(model, name, x[i : i + 1]))


def test_routing__of_a_single_sample_takes_any_shape() -> None:
    model = _linear_model("a")
    x = torch.randn(1, 4)
    torch.testing.assert_close(model(x, adapter_names=["a"]), model(x))


@pytest.mark.parametrize("names", [["a"], ["a"] * 3, []], ids=len)
def test_wrong_number_of_names__is_an_error_with_both_numbers(names: list[str]) -> None:
    with pytest.raises(RoutingError, match=rf"{len(names)} entries for a batch of 2"):
        _linear_model("a")(torch.randn(2, 4), adapter_names=names)


def test_wrong_number_of_names__is_seen_in_keyword_arguments_too() -> None:
    with pytest.raises(RoutingError, match="1 entries for a batch of 2"):
        _linear_model("a")(input=torch.randn(2, 4), adapter_names=["a"])


def test_unknown_names__are_listed() -> None:
    with pytest.raises(RoutingError, match=r"unknown names \['x', 'y'\].*\['a', 'b'\]"):
        _linear_model("a", "b")(torch.randn(3, 4), adapter_names=["y", "a", "x"])


def test_routing__is_for_eval_mode_only() -> None:
    with pytest.raises(RoutingError, match=r"model\.eval\(\)"):
        _linear_model("a").train()(torch.randn(1, 4), adapter_names=["a"])


def test_routing__while_merged_is_an_error() -> None:
    model = _linear_model("a")
    model.merge_adapter()
    with pytest.raises(RoutingError, match="unmerge_adapter"):
        model(torch.randn(1, 4), adapter_names=["a"])


def test_routing__ends_with_the_call_even_when_it_fails() -> None:
    model, x = _linear_model("a", "b"), torch.randn(2, 4)
    expected = model(x)
    model(x, adapter_names=["b", BASE])
    assert torch.equal(model(x), expected)
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.randn(2, 5), adapter_names=["b", BASE])
    assert torch.equal(model(x), expected)


def test_routing__gives_gradients_to_each_adapter_from_its_own_samples() -> None:
    model, x = _linear_model("a", "b"), torch.randn(2, 4)
    model.base_model.set_adapter(["a", "b"])
    model(x, adapter_names=["b", BASE]).sum().backward()
    layer = model.base_model.model.layer
    assert layer.lora_A["a"].weight.grad is None
    found = layer.lora_A["b"].weight.grad.clone()
    model.zero_grad()
    model.set_adapter("b")
    model(x[:1]).sum().backward()
    torch.testing.assert_close(found, layer.lora_A["b"].weight.grad)


def test_errors__are_value_errors_as_callers_of_peft_expect() -> None:
    assert issubclass(RoutingError, ValueError)


def test_route__remembers_its_rows() -> None:
    route, x = Route(["b", BASE, "a", "b"]), torch.randn(8, 3)
    _, rows = route.rows(x, 0)
    assert {n: r.tolist() for n, r in rows.items()} == {"b": [0, 1, 6, 7], "a": [4, 5]}
    assert route.rows(x, 0)[1] is rows
