from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lumora.errors import AdapterError, AdapterFileError, AdapterKeyError, AdapterShapeError, UnknownAdapterError
from lumora.lora import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    hotswap_adapter,
    inject_adapter_in_model,
    prepare_model_for_compiled_hotswap,
)
from lumora.lora.hotswap import hotswap_adapter_from_state_dict

LAYERS: dict[str, Any] = {
    "linear": lambda: nn.Linear(6, 4),
    "convolution": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "grouped": lambda: nn.Conv2d(4, 8, 3, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "embedding": lambda: nn.Embedding(7, 4),
    "attention": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
}
INPUTS: dict[str, Any] = {
    "linear": lambda: torch.randn(3, 6),
    "convolution": lambda: torch.randn(2, 3, 5, 5),
    "grouped": lambda: torch.randn(2, 4, 5, 5),
    "transposed": lambda: torch.randn(2, 4, 5, 5),
    "embedding": lambda: torch.arange(7),
    "attention": lambda: torch.randn(2, 5, 8),
}


class Net(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.one = LAYERS[kind]()
        self.two = LAYERS[kind]()
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = [layer(x, x, x)[0] if self.kind == "attention" else layer(x) for layer in (self.one, self.two)]
        return self.head(torch.stack([y.flatten(1).mean(1) for y in both], dim=1))


def net(kind: str = "linear") -> Net:
    torch.manual_seed(0)
    return Net(kind).eval()


def adapted(kind: str = "linear", seed: int = 1, **config: Any) -> PeftModel:
    torch.manual_seed(seed)
    config = {"r": 2, "target_modules": ["one", "two"], "init_lora_weights": False, **config}
    model = get_peft_model(net(kind), LoraConfig(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def saved(folder: Path, kind: str = "linear", seed: int = 2, **config: Any) -> Path:
    adapted(kind, seed, **config).save_pretrained(folder)
    return folder


def fresh(folder: Path, kind: str = "linear") -> PeftModel:
    return PeftModel.from_pretrained(net(kind), folder).eval()


def addresses(model: nn.Module) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "alpha": {"lora_alpha": 20},
    "patterns": {"rank_pattern": {"one": 2}, "alpha_pattern": {"two": 5}},
    "rslora": {"use_rslora": True},
    "dropout": {"lora_dropout": 0.5},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", LAYERS)
def test_hotswap__gives_the_outputs_of_a_fresh_load_in_the_same_tensors(
    tmp_path: Path, kind: str, config: dict[str, Any]
) -> None:
    x = INPUTS[kind]()
    model = adapted(kind)
    before = addresses(model)
    hotswap_adapter(model, saved(tmp_path, kind, **config), "default")
    assert torch.equal(model(x), fresh(tmp_path, kind)(x))
    assert addresses(model) == before


@pytest.mark.parametrize("rank", [2, 4, 6])
@pytest.mark.parametrize("kind", LAYERS)
def test_hotswap_to_another_rank__needs_no_room(tmp_path: Path, kind: str, rank: int) -> None:
    x = INPUTS[kind]()
    model = adapted(kind, r=4)
    hotswap_adapter(model, saved(tmp_path, kind, r=rank), "default")
    torch.testing.assert_close(model(x), fresh(tmp_path, kind)(x), rtol=0, atol=1e-5)
    assert all(r == rank for layer in layers_of(model) for r in layer.r.values())


def layers_of(model: nn.Module) -> list[Any]:
    from lumora.lora.layers import LoraLayer

    return [m for m in model.modules() if isinstance(m, LoraLayer)]


@pytest.mark.parametrize("kind", LAYERS)
def test_room_for_larger_ranks__changes_neither_outputs_nor_files(tmp_path: Path, kind: str) -> None:
    x = INPUTS[kind]()
    model = adapted(kind)
    expected = model(x)
    model.save_pretrained(tmp_path / "before")
    prepare_model_for_compiled_hotswap(model, target_rank=8)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)
    model.save_pretrained(tmp_path / "after")
    first, second = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("before", "after"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(fresh(tmp_path / "after", kind)(x), expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_hotswap_with_room__takes_every_rank_in_the_same_tensors(tmp_path: Path, kind: str) -> None:
    x = INPUTS[kind]()
    model = adapted(kind, r=4)
    prepare_model_for_compiled_hotswap(model, target_rank=8)
    before = addresses(model)
    for rank in (2, 8, 4):
        folder = saved(tmp_path / str(rank), kind, r=rank, lora_alpha=3)
        hotswap_adapter(model, folder, "default")
        torch.testing.assert_close(model(x), fresh(folder, kind)(x), rtol=0, atol=1e-5)
        model.save_pretrained(tmp_path / "again")
        again, source = (load_file(f / "adapter_model.safetensors") for f in (tmp_path / "again", folder))
        assert all(torch.equal(again[key], source[key]) for key in source)
    assert addresses(model) == before


def test_padded_adapter__takes_what_load_adapter_reads(tmp_path: Path) -> None:
    x = INPUTS["linear"]()
    model = adapted()
    prepare_model_for_compiled_hotswap(model, target_rank=5)
    model.load_adapter(saved(tmp_path), "default")
    torch.testing.assert_close(model(x), fresh(tmp_path)(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [{"use_dora": True}, {"lora_bias": True, "init_lora_weights": True}, {"bias": "all"}, {"bias": "lora_only"}],
)
@pytest.mark.parametrize("head", [None, ["head"]])
def test_hotswap__takes_heads_biases_and_magnitudes_along(
    tmp_path: Path, config: dict[str, Any], head: list[str] | None
) -> None:
    x = INPUTS["linear"]()
    model = adapted(**config, modules_to_save=head)
    hotswap_adapter(model, saved(tmp_path, **config, modules_to_save=head), "default")
    assert torch.equal(model(x), fresh(tmp_path)(x))


@pytest.mark.parametrize("dora", [False, True])
def test_hotswap_to_fewer_layers__gives_the_rest_back_to_the_base(tmp_path: Path, dora: bool) -> None:
    x = INPUTS["linear"]()
    model = adapted(use_dora=dora, modules_to_save=["head"])
    hotswap_adapter(model, saved(tmp_path, target_modules=["one"], use_dora=dora), "default")
    torch.testing.assert_close(model(x), fresh(tmp_path)(x), rtol=0, atol=1e-6)


def test_hotswap__leaves_other_adapters_alone(tmp_path: Path) -> None:
    x = INPUTS["linear"]()
    model = adapted()
    model.add_adapter("other", LoraConfig(r=3, target_modules=["one"], init_lora_weights=False))
    model.set_adapter("other")
    expected = model(x)
    hotswap_adapter(model, saved(tmp_path, r=4), "default")
    assert torch.equal(model(x), expected)
    model.set_adapter("default")
    torch.testing.assert_close(model(x), fresh(tmp_path)(x), rtol=0, atol=1e-6)


def test_hotswap__forgets_the_strength_of_the_old_adapter(tmp_path: Path) -> None:
    x = INPUTS["linear"]()
    model = adapted()
    model.set_strength("default", 0.25)
    hotswap_adapter(model, saved(tmp_path), "default")
    assert torch.equal(model(x), fresh(tmp_path)(x))


def test_hotswap__keeps_the_configuration_true(tmp_path: Path) -> None:
    model = adapted(inference_mode=True)
    hotswap_adapter(model, saved(tmp_path, r=4, lora_alpha=12, rank_pattern={"one": 1}), "default")
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.rank_pattern, config.inference_mode) == (4, 12, {"one": 1}, True)


def test_hotswap_then_merge__folds_the_new_weights_in(tmp_path: Path) -> None:
    x = INPUTS["linear"]()
    model = adapted(r=4)
    hotswap_adapter(model, saved(tmp_path, r=2), "default")
    expected = model(x)
    torch.testing.assert_close(model.merge_and_unload()(x), expected, rtol=0, atol=1e-5)


def test_hotswap_into_an_injected_model__works_with_and_without_prefix(tmp_path: Path) -> None:
    x = INPUTS["linear"]()
    model = net()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["one", "two"]), model)
    hotswap_adapter(model, saved(tmp_path), "default")
    assert torch.equal(model(x), fresh(tmp_path)(x))
    tensors = load_file(saved(tmp_path / "next", seed=7) / "adapter_model.safetensors")
    bare = {key.removeprefix("base_model.model."): value for key, value in tensors.items()}
    hotswap_adapter_from_state_dict(model, bare, "default", fresh(tmp_path / "next").peft_config["default"])
    assert torch.equal(model(x), fresh(tmp_path / "next")(x))


def test_hotswap_into_a_compiled_model__compiles_nothing_anew(tmp_path: Path) -> None:
    x = INPUTS["linear"]()
    model = adapted(r=2)
    prepare_model_for_compiled_hotswap(model, target_rank=4)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        compiled(x)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for i, (rank, alpha) in enumerate([(4, 9), (1, 2), (2, 2)]):
                folder = saved(tmp_path / str(i), seed=i, r=rank, lora_alpha=alpha)
                hotswap_adapter(compiled, folder, "default")
                torch.testing.assert_close(compiled(x), fresh(folder)(x), rtol=0, atol=1e-5)
    torch._dynamo.reset()


PROBLEMS: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "more layers": (AdapterKeyError, {"target_modules": ["one", "two", "head"]}),
    "a head": (AdapterKeyError, {"modules_to_save": ["head"]}),
    "biases": (AdapterKeyError, {"bias": "all"}),
    "dora": (AdapterError, {"use_dora": True}),
    "part of the base": (AdapterFileError, {"init_lora_weights": "pissa"}),
    "lora_bias": (AdapterError, {"lora_bias": True, "init_lora_weights": True}),
}


@pytest.mark.parametrize(("kind", "config"), PROBLEMS.values(), ids=PROBLEMS)
def test_hotswap_that_cannot_be__changes_nothing(tmp_path: Path, kind: type[Exception], config: dict[str, Any]) -> None:
    model = adapted()
    before, known = copy.deepcopy(model.state_dict()), copy.deepcopy(model.peft_config)
    with pytest.raises(kind):
        hotswap_adapter(model, saved(tmp_path, **config), "default")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.peft_config == known


OTHER_STARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pissa, rank": ({"init_lora_weights": "pissa"}, {"r": 1}),
    "pissa, rank of a layer": ({"init_lora_weights": "pissa"}, {"rank_pattern": {"two": 1}}),
    "pissa, layers": ({"init_lora_weights": "pissa"}, {"target_modules": ["one"]}),
    "olora, alpha": ({"init_lora_weights": "olora"}, {"lora_alpha": 20}),
    "olora, alpha of a layer": ({"init_lora_weights": "olora"}, {"alpha_pattern": {"two": 20}}),
    "olora, rslora": ({"init_lora_weights": "olora"}, {"use_rslora": True}),
}


@pytest.mark.parametrize(("start", "other"), OTHER_STARTS.values(), ids=OTHER_STARTS)
def test_hotswap_of_what_took_another_part_of_the_base__is_refused(
    tmp_path: Path, start: dict[str, Any], other: dict[str, Any]
) -> None:
    model = adapted(**start)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(AdapterFileError, match="another part of the base"):
        hotswap_adapter(model, saved(tmp_path, **{**start, **other}), "default")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "config",
    [{"init_lora_weights": "pissa", "lora_alpha": 20}, {"init_lora_weights": "olora", "alpha_pattern": {"two": 8}}],
    ids=["pissa", "olora"],
)
def test_hotswap_of_what_took_the_same_part_of_the_base__gives_the_outputs_of_a_fresh_load(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    x = INPUTS["linear"]()
    model = adapted(init_lora_weights=config["init_lora_weights"])
    hotswap_adapter(model, saved(tmp_path, **config), "default")
    torch.testing.assert_close(model(x), fresh(tmp_path)(x), rtol=0, atol=1e-6)


def test_hotswap_of_another_size__changes_nothing(tmp_path: Path) -> None:
    model = adapted()
    before = copy.deepcopy(model.state_dict())
    tensors = dict(load_file(saved(tmp_path) / "adapter_model.safetensors"))
    tensors["base_model.model.two.lora_B.weight"] = torch.zeros(9, 2)
    with pytest.raises(AdapterShapeError, match="two"):
        hotswap_adapter_from_state_dict(model, tensors, "default", LoraConfig(r=2, target_modules=["one", "two"]))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_hotswap_without_trained_biases__says_that_the_base_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(AdapterKeyError, match=r"one\.base_layer\.bias"):
        hotswap_adapter(adapted(bias="lora_only"), saved(tmp_path), "default")


def test_hotswap_of_an_unknown_adapter__names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UnknownAdapterError, match="default"):
        hotswap_adapter(adapted(), saved(tmp_path), "other")


def test_hotswap_while_merged__is_refused(tmp_path: Path) -> None:
    model = adapted()
    model.merge_adapter()
    with pytest.raises(AdapterError, match="merged"):
        hotswap_adapter(model, saved(tmp_path), "default")


def test_room__has_conditions() -> None:
    with pytest.raises(AdapterError, match="rank 2"):
        prepare_model_for_compiled_hotswap(adapted(), target_rank=1)
    with pytest.raises(AdapterError, match="groups"):
        prepare_model_for_compiled_hotswap(adapted("grouped"), target_rank=5)
    with pytest.raises(AdapterError, match="no adapters"):
        prepare_model_for_compiled_hotswap(net(), target_rank=4)
    with pytest.raises(AdapterError, match="check_compiled"):
        prepare_model_for_compiled_hotswap(adapted(), check_compiled="maybe")  # type: ignore[arg-type]
    with pytest.raises(AdapterError, match="compiled already"):
        prepare_model_for_compiled_hotswap(torch.compile(adapted()), target_rank=4)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="compiled already"):
        prepare_model_for_compiled_hotswap(torch.compile(adapted()), target_rank=4, check_compiled="warn")  # type: ignore[arg-type]


def test_room_that_one_layer_cannot_give__is_given_by_none() -> None:
    model = get_peft_model(net("grouped"), LoraConfig(r=2, target_modules=["one", "two", "head"]))
    with pytest.raises(AdapterError):
        prepare_model_for_compiled_hotswap(model, target_rank=5)
    assert model.get_base_model().head.lora_A["default"].weight.shape[0] == 2
