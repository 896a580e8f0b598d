"""Adapters go in all at once or not at all, and come out without a trace."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from tests.lora.reference import draw
from tests.lora.snapshot import unchanged
from timm.layers import Conv2dSame, StdConv2d
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm
from torch.nn.utils.parametrize import register_parametrization

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.errors import ConfigError, LumoraWarning, NoMatchingPeftModuleError, PeftError, TargetError
from lumora.lora.layers import LoraLayer
from lumora.lora.saved import ModulesToSaveWrapper

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")


class Net(nn.Module):
    """A bit of everything, with hooks, gradients, a frozen parameter and mixed modes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2)])
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.depthwise(self.stem(x))).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.attention(x, x, x)[0].mean(1))


@pytest.fixture
def net() -> Net:
    model = Net()
    model.stem.weight.requires_grad_(False)
    model.norm.eval()
    model.head.register_forward_hook(lambda *_: None)
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    return model


MISTAKES = {
    "nothing matches": ({"target_modules": ["nothing"]}, "nothing in the model matches 'nothing'"),
    "one entry matches nothing": (
        {"target_modules": ["stem", "haed"]},
        r"nothing is called 'haed' \(did you mean 'head'",
    ),
    "saved entry matches nothing": (
        {"target_modules": ["stem"], "modules_to_save": ["haed"]},
        r"modules_to_save: nothing is called 'haed' \(did you mean 'head'",
    ),
    "rank does not divide": ({"target_modules": ["stem", "depthwise"], "r": 6}, "depthwise: rank 6 .* 4 groups"),
    "no weight": ({"target_modules": ["norm"]}, "norm: BatchNorm2d has no weight matrix"),
    "container": ({"target_modules": ["0.0", "blocks"]}, "blocks: ModuleList is a container; name the layers inside"),
    "projection of attention": ({"target_modules": ["out_proj"]}, "target 'attention' and both projections"),
    "adapted and saved": (
        {"target_modules": ["stem", "head"], "modules_to_save": ["head"]},
        r"\['head'\] stand in target_modules and in modules_to_save",
    ),
    "everything excluded": (
        {"target_modules": ["stem"], "exclude_modules": ["stem"]},
        r"matched 1 modules \(such as 'stem'\), but exclude_modules",
    ),
    "no default targets": ({}, "Net is no architecture with known defaults"),
    "grouped principal directions": (
        {"target_modules": ["stem", "depthwise"], "init_lora_weights": "pissa"},
        "depthwise: init_lora_weights='pissa' needs a layer that is one matrix",
    ),
    "more directions than there are": (
        {"target_modules": ["stem", "head"], "init_lora_weights": "olora"},
        r"head: init_lora_weights='olora' takes 4 directions out of a \(2, 4\) matrix",
    ),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake__is_named_and_leaves_the_model_as_it_was(net: Net, options: dict[str, object], message: str) -> None:
    config = LoraConfig(**{"r": 4, **options})
    with unchanged(net, random=False), pytest.raises(ValueError, match=message) as caught:
        get_peft_model(net, config)
    assert isinstance(caught.value, (TargetError, PeftError))
    assert "the model is unchanged" in str(caught.value)


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake__in_a_second_adapter_leaves_the_first_as_it_was(
    net: Net, options: dict[str, object], message: str
) -> None:
    model = get_peft_model(net, LoraConfig(r=4, target_modules=["blocks.0.0", "attention"]))
    configs = dict(model.peft_config)
    with unchanged(model, random=False), pytest.raises(TargetError, match=message):
        model.add_adapter("second", LoraConfig(**{"r": 4, **options}))
    assert model.peft_config == configs


def test_all_mistakes__stand_in_one_message(net: Net) -> None:
    config = LoraConfig(r=6, target_modules=["stem", "depthwise", "norm", "out_proj", "haed"], modules_to_save=["hed"])
    with unchanged(net), pytest.raises(TargetError) as caught:
        get_peft_model(net, config, adapter_name="a.b")
    text = str(caught.value)
    for part in ("'a.b'", "'haed'", "'hed'", "depthwise: rank 6", "norm: BatchNorm2d", "attention.out_proj:"):
        assert part in text
    assert text.count("\n") == 6


def test_no_match__has_its_own_kind_and_lists_what_could_be_adapted(net: Net) -> None:
    with pytest.raises(NoMatchingPeftModuleError, match=r"did you mean 'attention'.*Endings in this model: 0 \(2\)"):
        get_peft_model(net, LoraConfig(target_modules=["atention"]))


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "a\\b", "__base__", "forward", "keys", "training", "_modules"])
def test_adapter_name__that_cannot_be_a_modules_is_refused(net: Net, name: str) -> None:
    with unchanged(net), pytest.raises(TargetError, match=r"name|called"):
        get_peft_model(net, LoraConfig(target_modules=["stem"], modules_to_save=["head"]), adapter_name=name)


@pytest.mark.parametrize("name", ["a.b", "training", "second"])
def test_rename__to_a_name_that_cannot_be_is_refused(net: Net, name: str) -> None:
    model = get_peft_model(net, LoraConfig(target_modules=["stem"], modules_to_save=["head"]))
    model.add_adapter("second", LoraConfig(target_modules=["head", "stem"][1:]))
    with unchanged(model), pytest.raises(ValueError, match=name):
        model.base_model.rename_adapter("default", name)


def test_taken_name__is_refused(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(target_modules=["stem"]))
    with unchanged(model), pytest.raises(TargetError, match="there is an adapter 'default' already"):
        model.add_adapter("default", LoraConfig(target_modules=["head"]))


def test_second_adapter__that_trains_biases_is_refused(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(target_modules=["stem"], bias="all"))
    with unchanged(model), pytest.raises(TargetError, match=r"bias='lora_only'.*'default'"):
        model.add_adapter("second", LoraConfig(target_modules=["stem"], bias="lora_only"))


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_second_adapter__that_would_change_the_base_under_the_first_is_refused(net: Net, start: str) -> None:
    model = get_peft_model(net, LoraConfig(target_modules=["stem"]))
    config = LoraConfig(r=2, target_modules=["stem"], init_lora_weights=start)
    with unchanged(model, random=False), pytest.raises(TargetError, match=rf"stem: init_lora_weights='{start}'"):
        model.add_adapter("second", config)


# --- modules that look like something else ---------------------------------------------------------------------------


class Around(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.fine = nn.Linear(4, 4)
        self.layer = layer


class MyLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class SameLinear(nn.Linear):
    """Adds something, but computes what its parent computes."""

    def describe(self) -> str:
        return "mine"


def _parametrized() -> nn.Module:
    layer = nn.Linear(4, 4)
    register_parametrization(layer, "weight", nn.Tanh())
    return layer


def _old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return weight_norm(nn.Linear(4, 4))


LOOKALIKES = {
    "StdConv2d": (lambda: StdConv2d(4, 4, 3), "StdConv2d is a Conv2d that changes forward"),
    "Conv2dSame": (lambda: Conv2dSame(4, 4, 3), "Conv2dSame is a Conv2d that changes forward"),
    "subclass": (lambda: MyLinear(4, 4), "MyLinear is a Linear that changes forward"),
    "parametrized": (_parametrized, "computed by a parametrization"),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), "computed by a parametrization"),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), "computed by a parametrization"),
    "old weight_norm": (_old_weight_norm, "no plain parameter"),
    "old spectral_norm": (lambda: nn.utils.spectral_norm(nn.Linear(4, 4)), "no plain parameter"),
    "lazy linear": (lambda: nn.LazyLinear(4), "lazy module without a size yet"),
    "lazy convolution": (lambda: nn.LazyConv2d(4, 3), "lazy module without a size yet"),
    "embedding with max_norm": (lambda: nn.Embedding(5, 4, max_norm=1.0), "max_norm"),
    "bilinear": (lambda: nn.Bilinear(4, 4, 4), "Bilinear has no weight matrix that Lumora can adapt"),
}


@pytest.mark.parametrize(("make", "reason"), LOOKALIKES.values(), ids=LOOKALIKES.keys())
def test_lookalike__is_refused_by_name_with_the_reason(make: object, reason: str) -> None:
    model = Around(make())  # type: ignore[operator]
    lazy = "lazy" in reason
    before = copy.deepcopy(vars(model.layer)) if lazy else None
    if lazy:
        with pytest.raises(TargetError, match=f"layer: .*{reason}"):
            get_peft_model(model, LoraConfig(target_modules=["fine", "layer"]))
        assert type(model.fine) is nn.Linear
        assert list(vars(model.layer)) == list(before or {})
        return
    with unchanged(model), pytest.raises(TargetError, match=f"layer: .*{reason}"):
        get_peft_model(model, LoraConfig(target_modules=["fine", "layer"]))


def test_subclass__that_computes_the_same_is_adapted() -> None:
    model = get_peft_model(Around(SameLinear(4, 4)), LoraConfig(r=2, target_modules=["layer"]))
    assert isinstance(model.base_model.model.layer, LoraLayer)
    assert model.base_model.model.layer.describe() == "mine"


def test_timm_model__with_standardized_convolutions_is_refused_by_their_paths() -> None:
    model = timm.models.ResNetV2((1,), (128,), num_classes=2, stem_chs=32, conv_layer=StdConv2d)
    assert type(model.stages[0].blocks[0].conv1) is StdConv2d
    with unchanged(model), pytest.raises(TargetError, match=r"stages\.0\.blocks\.0\.conv1: StdConv2d"):
        get_peft_model(model, LoraConfig(target_modules=["conv1", "head.fc"]))


# --- shared modules --------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One layer at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.other = nn.Sequential(nn.ReLU(), self.first)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.first(x))


def test_shared_layer__is_adapted_once_and_in_both_places() -> None:
    base = Shared()
    layer, keys = base.first, list(base.state_dict())
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["first"]))
    draw(model)
    assert base.first is base.other[1]
    assert base.first.base_layer is layer
    assert model.get_nb_trainable_parameters()[0] == 2 * 4 + 4 * 2
    x = torch.randn(3, 4)
    weight = layer.weight + base.first.get_delta_weight("default")

    def plain(x: Tensor) -> Tensor:
        return x @ weight.t() + layer.bias

    torch.testing.assert_close(model(x), plain(plain(x).relu()))
    restored = model.unload()
    assert restored.first is layer
    assert restored.other[1] is layer
    assert list(restored.state_dict()) == keys


def test_shared_layer__asked_for_by_its_second_name_is_refused_with_the_first() -> None:
    model = Shared()
    with unchanged(model), pytest.raises(TargetError, match=r"'other\.1' is the module 'first'"):
        get_peft_model(model, LoraConfig(r=2, target_modules=["other.1"]))


def test_shared_head__is_saved_once_and_used_in_both_places() -> None:
    base = Shared()
    base.body = nn.Linear(4, 4)
    get_peft_model(base, LoraConfig(r=2, target_modules=["body"], modules_to_save=["first"]))
    assert isinstance(base.first, ModulesToSaveWrapper)
    assert base.first is base.other[1]


# --- what an adapter does to the rest --------------------------------------------------------------------------------


def test_first_adapter__freezes_the_base_and_nothing_else_of_it(net: Net) -> None:
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    modes = {n: m.training for n, m in net.named_modules()}
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["blocks.0.0"], modules_to_save=["head"]))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    start = "base_model.model."
    assert trained == {
        f"{start}blocks.0.0.lora_A.default.weight",
        f"{start}blocks.0.0.lora_B.default.weight",
        f"{start}head.modules_to_save.default.weight",
        f"{start}head.modules_to_save.default.bias",
    }
    plain = dict(net.named_parameters())
    for name, value in before.items():
        now = plain.get(name, plain.get(name.replace(".weight", ".base_layer.weight")))
        now = plain.get(name.replace("0.0.", "0.0.base_layer.")) if now is None else now
        now = plain[name.replace("head.", "head.original_module.")] if now is None else now
        assert torch.equal(now, value)
    for name, mode in modes.items():
        if name and "head" not in name:
            module = net.get_submodule(name)
            assert module.training == mode, name


def test_second_adapter__changes_nothing_about_the_first(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["blocks.0.0"], modules_to_save=["head"], bias="all"))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert any(n.endswith("stem.bias") for n in trained)
    model.add_adapter("second", LoraConfig(r=2, target_modules=["blocks.0.0", "stem"], modules_to_save=["head"]))
    now = {n for n, p in model.named_parameters() if p.requires_grad}
    assert now == {n.replace("stem.bias", "stem.base_layer.bias") for n in trained}
    assert model.active_adapters == ["default"]


def test_second_adapter__that_does_not_train_leaves_the_first_training(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["blocks.0.0"]))
    model.add_adapter("second", LoraConfig(r=2, target_modules=["blocks.0.0"], inference_mode=True))
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        f"base_model.model.blocks.0.0.lora_{f}.default.weight" for f in "AB"
    }


def test_set_adapter__trains_the_biases_that_the_adapter_asked_for(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["blocks.0.0"], bias="lora_only"))
    model.add_adapter("second", LoraConfig(r=2, target_modules=["blocks.0.0"]))
    bias = net.blocks[0][0].base_layer.bias
    assert bias.requires_grad
    model.set_adapter("second")
    assert not bias.requires_grad
    model.set_adapter("default")
    assert bias.requires_grad
    model.set_adapter("default", inference_mode=True)
    assert not bias.requires_grad


def test_bias_all__trains_every_bias_of_the_base(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["blocks.0.0"], bias="all"))
    trained = {n.removeprefix("base_model.model.") for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if "lora_" not in n} == {
        "stem.bias",
        "depthwise.bias",
        "norm.bias",
        "blocks.0.0.base_layer.bias",
        "blocks.1.0.bias",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "head.bias",
    }


def test_configuration__of_the_caller_is_not_changed(net: Net) -> None:
    config = LoraConfig(r=2, target_modules=["blocks.0.0"], modules_to_save=["head"], task_type="SEQ_CLS")
    before = copy.deepcopy(config)
    model = get_peft_model(net, config)
    assert config == before
    assert model.peft_config["default"] is not config
    model.peft_config["default"].target_modules.add("more")
    assert config == before


def test_new_layers__take_the_mode_of_what_they_replace(net: Net) -> None:
    net.eval()
    model = get_peft_model(net, LoraConfig(target_modules=["stem"], modules_to_save=["head"], lora_dropout=0.5))
    assert not any(m.training for m in model.modules())
    model.train()
    assert net.stem.lora_dropout["default"].training


def test_unload__puts_every_module_back(net: Net) -> None:
    before = {n: id(m) for n, m in net.named_modules()}
    config = LoraConfig(r=2, target_modules=["stem", "0.0", "attention"], modules_to_save=["head"])
    model = get_peft_model(net, config)
    draw(model)
    plain = model.unload()
    assert plain is net
    assert {n: id(m) for n, m in plain.named_modules()} == before
    assert not hasattr(plain, "peft_config")


def test_merge_and_unload__keeps_the_trained_head(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["stem"], modules_to_save=["head"]))
    trained = net.head.modules_to_save["default"]
    assert model.merge_and_unload().head is trained


def test_get_peft_model__twice_with_one_name_replaces_it(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["stem", "0.0"]))
    draw(model)
    with pytest.warns(UserWarning, match=r"has adapters already: \['default'\]"):
        again = get_peft_model(net, LoraConfig(r=4, target_modules=["stem"]))
    assert list(again.peft_config) == ["default"]
    assert dict(net.stem.r) == {"default": 4}
    assert type(net.blocks[0][0]) is nn.Linear
    assert isinstance(again, PeftModel)


def test_get_peft_model__does_not_replace_what_is_merged(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["stem", "0.0"]))
    draw(model)
    model.merge_adapter()
    with pytest.warns(UserWarning), unchanged(model, random=False), pytest.raises(ValueError, match="unmerge_adapter"):
        get_peft_model(net, LoraConfig(r=4, target_modules=["stem"]))


def test_adapter_and_saved_module__of_two_adapters_may_not_overlap(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["stem", "0.0"], modules_to_save=["head"]))
    for options, reason in (
        ({"target_modules": ["head", "stem"]}, "head: .*saved whole"),
        ({"target_modules": ["stem"], "modules_to_save": ["blocks"]}, r"modules_to_save: 'blocks' .*adapted"),
        ({"target_modules": ["attention"], "modules_to_save": ["stem"]}, r"modules_to_save: 'stem' .*adapted"),
    ):
        with unchanged(model), pytest.raises(TargetError, match=reason):
            model.add_adapter("second", LoraConfig(r=2, **options))
    model.add_adapter("second", LoraConfig(r=2, target_modules="all-linear"))
    assert isinstance(net.head, ModulesToSaveWrapper)


def test_deleted_adapter__gives_its_head_free_for_another_use(net: Net) -> None:
    model = get_peft_model(net, LoraConfig(r=2, target_modules=["stem"], modules_to_save=["head"]))
    model.add_adapter("second", LoraConfig(r=2, target_modules=["stem"]))
    model.delete_adapter("second")
    head = net.head.original_module
    model.delete_adapter("default")
    assert net.head is head
    model.add_adapter("third", LoraConfig(r=2, target_modules=["head"]))
    assert isinstance(net.head, LoraLayer)


def test_nested_names_to_save__are_saved_once() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    model = nn.ModuleDict({"body": nn.Linear(4, 4), "head": Head()})
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["body"], modules_to_save=["head"]))
    saved = [n for n, m in adapted.named_modules() if isinstance(m, ModulesToSaveWrapper)]
    assert saved == ["base_model.model.head"]


def test_sequence_classification__also_saves_its_classifier() -> None:
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "classifier": nn.Linear(4, 2)})
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["body"], task_type="SEQ_CLS"))
    assert isinstance(model["classifier"], ModulesToSaveWrapper)
    assert adapted.peft_config["default"].modules_to_save == ["classifier", "score"]


def test_oversized_adapter__is_warned_about_with_the_numbers() -> None:
    model = nn.ModuleDict({"depthwise": nn.Conv2d(8, 8, 3, groups=8), "linear": nn.Linear(64, 64)})
    with pytest.warns(LumoraWarning, match=r"1 of 2 adapters are larger.*depthwise \(584 parameters for 72\)"):
        get_peft_model(model, LoraConfig(r=8, target_modules=["depthwise", "linear"]))


def test_low_cpu_mem_usage__leaves_the_factors_without_storage() -> None:
    for options in ({}, {"use_dora": True}, {"init_lora_weights": "orthogonal"}):
        base = nn.ModuleDict({"linear": nn.Linear(4, 4), "embedding": nn.Embedding(4, 4)})
        before = {k: v.clone() for k, v in base.state_dict().items()}
        config = LoraConfig(r=2, target_modules=["linear", "embedding"], **options)
        model = get_peft_model(base, config, low_cpu_mem_usage=True)
        assert {p.device.type for n, p in model.named_parameters() if "lora_" in n} == {"meta"}
        assert torch.equal(base["linear"].base_layer.weight, before["linear.weight"])


def test_bias_of_an_embeddings_adapter__is_refused_as_it_has_none() -> None:
    model = nn.ModuleDict({"linear": nn.Linear(4, 4), "embedding": nn.Embedding(4, 4)})
    with unchanged(model, random=False), pytest.raises((TargetError, ConfigError), match=r"embedding: .*lora_bias"):
        get_peft_model(model, LoraConfig(r=2, target_modules=["linear", "embedding"], lora_bias=True))
