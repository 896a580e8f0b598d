"""What people do with adapted models besides training one adapter, on real architectures."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lora.models import by_hand, zoo
from tests.lora.models.zoo import Architecture
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import PeftWarning
from lumora.lora.layers import LoraLayer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*larger than the layers", "ignore:There is a performance drop", "ignore:.*stay changed"
)
REAL = [zoo.BY_NAME[n] for n in ("vit", "segformer", "timm_swin", "timm_convnext", "torchvision_vit")]
ROUTABLE = [
    zoo.BY_NAME[n]
    for n in ("vit", "swin", "dinov2", "timm_vit", "timm_swin", "timm_convnext", "torchvision_vit", "timm_efficientnet")
]
NORMED = ["segformer", "resnet", "timm_resnet", "timm_efficientnet"]

real = pytest.mark.parametrize("architecture", REAL, ids=str)


def _three(architecture: Architecture) -> PeftModel:
    """Three adapters with other targets, ranks and scalings."""
    model = by_hand.adapted(architecture)
    model.add_adapter("wide", LoraConfig(r=3, lora_alpha=1, target_modules=list(architecture.explicit)))
    model.add_adapter("scaled", LoraConfig(r=1, lora_alpha=2, use_rslora=True))
    by_hand.draw(model)
    return model.to(torch.float64).eval()


def _alone(model: PeftModel, names: list[str], x: Tensor) -> Tensor:
    model.base_model.set_adapter(names)
    with torch.no_grad():
        return by_hand.tensors(model(x))[0]


# --- several adapters -------------------------------------------------------------------------------------------------


@real
def test_each_of_several_adapters__is_that_of_its_written_weights(architecture: Architecture) -> None:
    model, base, x = _three(architecture), architecture.base(), architecture.sample()[0][0]
    for names in (["default"], ["wide"], ["scaled"], ["wide", "default"], ["scaled", "default", "wide"]):
        expected = by_hand.written(base, by_hand.weights(model, base, tuple(names)))(x)
        by_hand.assert_close(_alone(model, names, x), by_hand.tensors(expected)[0])


@real
def test_adapters__come_and_go_without_touching_the_others(architecture: Architecture) -> None:
    model, x = _three(architecture), architecture.sample()[0][0]
    default, wide = _alone(model, ["default"], x), _alone(model, ["wide"], x)
    model.delete_adapter("scaled")
    model.base_model.rename_adapter("wide", "broad")
    by_hand.assert_same(_alone(model, ["broad"], x), wide)
    by_hand.assert_same(_alone(model, ["default"], x), default)
    model.add_adapter("wide", LoraConfig(r=2))
    by_hand.assert_same(_alone(model, ["broad"], x), wide)
    model.delete_adapter("wide")
    with pytest.warns(PeftWarning, match="was active"):
        model.base_model.set_adapter("broad")
        model.delete_adapter("broad")
    by_hand.assert_same(_alone(model, ["default"], x), default)
    assert list(model.peft_config) == ["default"]
    assert not [n for n, _ in model.named_parameters() if "wide" in n or "broad" in n or "scaled" in n]


@real
def test_several_adapters__are_saved_and_loaded_each_by_itself(architecture: Architecture, tmp_path: Path) -> None:
    model, x = _three(architecture), architecture.sample()[0][0]
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(architecture.base(), tmp_path / "wide", adapter_name="w").eval()
    loaded.load_adapter(tmp_path, "d")
    loaded.load_adapter(tmp_path / "scaled", "s")
    for ours, theirs in (("w", "wide"), ("d", "default"), ("s", "scaled")):
        by_hand.assert_same(_alone(loaded, [ours], x), _alone(model, [theirs], x))


@real
def test_several_adapters__merge_to_their_sum(architecture: Architecture) -> None:
    model, x = _three(architecture), architecture.sample()[0][0]
    expected = _alone(model, ["default", "wide"], x)
    model.merge_adapter(["default"])
    model.merge_adapter(["wide"])
    with torch.no_grad():
        by_hand.assert_close(by_hand.tensors(model(x))[0], expected)
        model.unmerge_adapter()
        by_hand.assert_same(_alone(model, ["default", "wide"], x), expected)


@pytest.mark.parametrize("architecture", ROUTABLE, ids=str)
def test_routing__gives_each_sample_what_its_adapter_gives_alone(architecture: Architecture) -> None:
    model = _three(architecture)
    x = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    names = ["wide", "__base__", "default", "scaled", "wide"]
    with torch.no_grad():
        routed = by_hand.tensors(model(x, adapter_names=names))[0]
        with model.disable_adapter():
            alone = {"__base__": by_hand.tensors(model(x))[0]}
    alone |= {name: _alone(model, [name], x) for name in ("default", "wide", "scaled")}
    for i, name in enumerate(names):
        by_hand.assert_close(routed[i], alone[name][i])
    assert not torch.allclose(alone["default"], alone["wide"])


def test_routing__with_a_saved_head_for_each() -> None:
    architecture = zoo.BY_NAME["vit"]
    model = by_hand.adapted(architecture, modules_to_save=["classifier"])
    model.add_adapter("other", LoraConfig(r=3, modules_to_save=["classifier"]))
    by_hand.draw(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.copy_(torch.randn_like(parameter))
    model = model.to(torch.float64).eval()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        routed = model(x, adapter_names=["other", "default", "__base__"]).logits
    by_hand.assert_close(routed[0], _alone(model, ["other"], x)[0])
    by_hand.assert_close(routed[1], _alone(model, ["default"], x)[1])
    with torch.no_grad():
        by_hand.assert_close(routed[2], architecture.base()(x).logits[2])


# --- what is trained and saved besides --------------------------------------------------------------------------------


def _train(model: PeftModel, x: Tensor, steps: int = 2) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        by_hand.scalar(model(x)).backward()
        optimizer.step()
    model.eval()


def test_decode_head__is_trained_and_saved_with_its_batch_norm(tmp_path: Path) -> None:
    architecture = zoo.BY_NAME["segformer"]
    model = by_hand.adapted(architecture, modules_to_save=["decode_head"])
    base, x = architecture.base(), architecture.sample()[0][0]
    _train(model, x)
    whole = model.get_base_model().decode_head
    trained, original = whole.modules_to_save["default"], whole.original_module
    for key, value in base.decode_head.state_dict().items():
        torch.testing.assert_close(original.state_dict()[key], value, rtol=0, atol=0)
        assert not torch.equal(trained.state_dict()[key], value), key
    model.save_pretrained(tmp_path)
    # Trainable, as the one that was saved: torch itself multiplies to other last bits where a weight wants a gradient.
    loaded = PeftModel.from_pretrained(architecture.base(), tmp_path, is_trainable=True).eval()
    with torch.no_grad():
        by_hand.assert_same(loaded(x), model(x))
        with loaded.disable_adapter():
            by_hand.assert_same(loaded(x), base(x))
        merged = loaded.merge_and_unload()
        by_hand.assert_close(merged(x), model(x))
    assert merged.state_dict().keys() == base.state_dict().keys()


def test_modules_deep_inside__are_trained_whole(tmp_path: Path) -> None:
    architecture = zoo.BY_NAME["vit"]
    deep = ["vit.layers.1.mlp", "vit.layernorm", "classifier"]
    model = by_hand.adapted(architecture, modules_to_save=deep)
    base, x = architecture.base(), architecture.sample()[0][0]
    _train(model, x)
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "modules_to_save" in n}
    assert len(trained) == 4 + 2 + 2
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(architecture.base(), tmp_path).eval()
    with torch.no_grad():
        by_hand.assert_same(loaded(x), model(x))
        assert not torch.allclose(model(x).logits, base(x).logits)
        by_hand.assert_same(model.unload()(x), base(x))


@pytest.mark.parametrize("mode", ["none", "lora_only", "all"])
@real
def test_bias_modes__train_and_save_the_biases_that_they_name(
    architecture: Architecture, mode: Any, tmp_path: Path
) -> None:
    model = by_hand.adapted(architecture, bias=mode)
    base, x = architecture.base(), architecture.sample()[0][0]
    # Every parameter of the base with such a name, or those inside of adapted layers; but, as in PEFT, not the bare
    # tensors of adapted attention.
    targets = tuple(path + "." for path in model.targeted_module_names)
    biases = {
        n for n, _ in base.named_parameters() if "bias" in n.rpartition(".")[2] and not n.endswith("in_proj_bias")
    }
    wanted = {"none": set(), "all": biases, "lora_only": {n for n in biases if n.startswith(targets)}}[mode]
    trained = {
        n.removeprefix(by_hand.PREFIX).replace("base_layer.", "")
        for n, p in model.named_parameters()
        if p.requires_grad and ".lora_" not in n
    }
    assert trained == wanted
    _train(model, x, steps=1)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(architecture.base(), tmp_path).eval()
    with torch.no_grad():
        by_hand.assert_same(loaded(x), model(x))


# --- batch norms of the base ------------------------------------------------------------------------------------------


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    return {n.replace("base_model.model.", ""): b.clone() for n, b in model.named_buffers() if "running" in n}


@pytest.mark.parametrize("name", NORMED)
def test_batch_norms__of_the_base_stay_bit_identical(name: str) -> None:
    architecture = zoo.BY_NAME[name]
    model, x = by_hand.adapted(architecture), architecture.sample()[0][0]
    _train(model, x)
    expected = _statistics(architecture.base())
    assert expected
    for key, value in _statistics(model).items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("name", NORMED)
def test_batch_norms__that_move_are_saved_with_the_adapter(name: str, tmp_path: Path) -> None:
    architecture = zoo.BY_NAME[name]
    model, x = by_hand.adapted(architecture, batch_norm="saved"), architecture.sample()[0][0]
    before = _statistics(model)
    _train(model, x)
    assert all(not torch.equal(value, before[key]) for key, value in _statistics(model).items())
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(architecture.base(), tmp_path).eval()
    for key, value in _statistics(loaded).items():
        torch.testing.assert_close(value, _statistics(model)[key], rtol=0, atol=0)
    with torch.no_grad():
        by_hand.assert_same(loaded(x), model(x))


def test_batch_norms__in_train_and_eval_give_the_same_when_frozen() -> None:
    architecture = zoo.BY_NAME["timm_resnet"]
    model, x = by_hand.adapted(architecture), architecture.sample()[0][0]
    with torch.no_grad():
        by_hand.assert_same(model.train()(x), model.eval()(x))


# --- hooks, copies, pickles -------------------------------------------------------------------------------------------


@real
def test_hooks__that_people_put_on_the_base_go_on_working(architecture: Architecture) -> None:
    base, x = architecture.base(), architecture.sample()[0][0]
    model = get_peft_model(base, LoraConfig(r=2))
    by_hand.draw(model)
    model = model.to(torch.float64).eval()
    with torch.no_grad():
        expected = by_hand.tensors(model(x))
    seen: list[Tensor] = []
    adapted: Any = by_hand.layers(model)[0]
    hooked: Any = adapted.base_layer

    def see(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(by_hand.tensors(output)[0])

    with torch.no_grad():
        handle = hooked.register_forward_hook(see)
        by_hand.assert_close(by_hand.tensors(model(x)), expected)
        handle.remove()
        assert seen
        handle = hooked.register_forward_hook(lambda m, a, o: _zeroed(o))
        changed = by_hand.tensors(model(x))
        handle.remove()
        assert not torch.allclose(changed[0], expected[0])
        by_hand.assert_same(by_hand.tensors(model(x)), expected)
    handle = adapted.register_forward_hook(see)
    model(x)
    handle.remove()
    assert len(seen) > 1


def _zeroed(output: Any) -> Any:
    return output * 0 if isinstance(output, Tensor) else (output[0] * 0, *output[1:])


def test_hooks__registered_before_adapting_see_the_adapted_output() -> None:
    architecture = zoo.BY_NAME["vit"]
    base, x = architecture.base(), architecture.sample()[0][0]
    seen: list[Tensor] = []
    base.vit.layers[0].register_forward_hook(lambda m, a, o: seen.append(by_hand.tensors(o)[0]))
    with torch.no_grad():
        base(x)
        model = get_peft_model(base, LoraConfig(r=2))
        by_hand.draw(model)
        model.to(torch.float64).eval()(x)
    assert len(seen) == 2
    assert not torch.allclose(seen[0], seen[1])


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(),
        LoraConfig(r=3, target_modules=["a", "b"], rank_pattern={"a": 4}, modules_to_save=["head"], use_dora=True),
        LoraConfig(target_modules=r".*\.query", init_lora_weights="eva", batch_norm="saved", task_type="SEQ_CLS"),
    ],
)
def test_config__survives_pickling_and_copying(config: LoraConfig) -> None:
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert LoraConfig(**config.to_dict()) == config


@real
def test_model__survives_pickling(architecture: Architecture) -> None:
    model, x = by_hand.adapted(architecture), architecture.sample()[0][0]
    restored = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        by_hand.assert_same(restored(x), model(x))
    assert restored.peft_config == model.peft_config


@real
def test_state_dict__goes_into_another_model_of_the_same_kind(architecture: Architecture) -> None:
    model, x = by_hand.adapted(architecture), architecture.sample()[0][0]
    other = get_peft_model(architecture.base(), LoraConfig(r=2, lora_alpha=3)).to(torch.float64).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        by_hand.assert_same(other(x), model(x))


def test_modules__answer_as_the_base_does() -> None:
    model = by_hand.adapted(zoo.BY_NAME["vit"])
    base: Any = zoo.BY_NAME["vit"].base()
    layer = model.get_submodule("base_model.model.vit.layers.0.attention.q_proj")
    assert isinstance(layer, LoraLayer)
    assert (layer.in_features, layer.out_features) == (16, 16)
    assert torch.equal(layer.weight, base.vit.layers[0].attention.q_proj.weight)
    assert model.config.model_type == "vit"
    assert model.num_labels == base.num_labels
    assert model.device == base.device


def test_functional_call__with_factors_given_from_outside() -> None:
    # What `torch.func` transforms of a whole model need: for per-sample gradients, say.
    model = by_hand.adapted(zoo.BY_NAME["timm_vit"]).train()
    x = zoo.BY_NAME["timm_vit"].sample()[0][0]
    factors = {k: v.detach() for k, v in model.named_parameters() if v.requires_grad}

    def loss(values: dict[str, Tensor], picture: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (picture[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0), randomness="different")(factors, x)
    for i in range(len(x)):
        model.zero_grad()
        model(x[i : i + 1]).square().sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(each[name][i], parameter.grad)
