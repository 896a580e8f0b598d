"""Where peft 0.21 computes something else than `W + scaling * B A`, and Lumora does not.

Each test proves ours against the explicit form, and that peft differs, so that we notice when it is mended: when such a
test fails, take the case out here and put it into the tests of agreement.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tests.peft_interop.toolkit import LIBRARIES, adapted, mlp, module_of, quiet
from tests.tiny_models import VIT
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import lumora.peft


def trained(library: Any, base: nn.Module, **config: Any) -> Any:
    """A model whose adapter no longer starts at zero."""
    return adapted(library, base, **{"r": 2, "target_modules": ["0"], "init_lora_weights": False, **config})


def update(state: dict[str, Tensor], path: str, scaling: float) -> Tensor:
    return scaling * state[f"{path}.lora_B.weight"].flatten(1) @ state[f"{path}.lora_A.weight"].flatten(1)


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    return nn.MultiheadAttention(8, 2, batch_first=True, **options).eval()


def test_attention__has_its_output_projection_adapted_once() -> None:
    x, base = torch.randn(3, 5, 8), attention()
    models = [trained(library, nn.Sequential(copy.deepcopy(base))) for library in (peft, lumora.peft)]
    states = [library.get_peft_model_state_dict(m) for library, m in zip((peft, lumora.peft), models, strict=True)]
    for key, value in states[0].items():
        assert torch.equal(states[1][key], value)
    explicit = copy.deepcopy(base)
    with torch.no_grad():
        explicit.in_proj_weight += update(states[0], "base_model.model.0", 4.0)
        explicit.out_proj.weight += update(states[0], "base_model.model.0.base_layer.out_proj", 4.0)
    expected = explicit(x, x, x)[0]
    theirs, ours = (m.get_base_model()[0](x, x, x)[0] for m in models)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5)
    with torch.no_grad():
        explicit.out_proj.weight += update(states[0], "base_model.model.0.base_layer.out_proj", 4.0)
    torch.testing.assert_close(theirs, explicit(x, x, x)[0], rtol=0, atol=2e-5)
    assert (theirs - expected).abs().max() > 0.1


def test_attention_adapter_of_peft__loads_with_a_warning(tmp_path: Path) -> None:
    trained(peft, nn.Sequential(attention())).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="twice"):
        lumora.peft.PeftModel.from_pretrained(nn.Sequential(attention()), tmp_path)


CONVOLUTIONS: dict[str, Any] = {
    "dilation": lambda: nn.Conv2d(3, 4, 3, padding=2, dilation=2),
    "dilation, not padded": lambda: nn.Conv2d(3, 4, 3, dilation=2),
    "circular": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
    "reflect": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "replicate in 1d": lambda: nn.Conv1d(3, 4, 3, padding=1, padding_mode="replicate"),
}


@pytest.mark.parametrize("make", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution__keeps_its_dilation_and_padding_mode(make: Any) -> None:
    torch.manual_seed(0)
    base = make()
    x = torch.randn(2, 3, *(8,) * (base.weight.dim() - 2))
    ours = trained(lumora.peft, nn.Sequential(copy.deepcopy(base)))
    explicit = copy.deepcopy(base)
    delta = update(lumora.peft.get_peft_model_state_dict(ours), "base_model.model.0", 4.0)
    explicit.weight.data += delta.view(base.weight.shape)
    torch.testing.assert_close(ours(x), explicit(x), rtol=0, atol=1e-4)
    theirs = trained(peft, nn.Sequential(copy.deepcopy(base)))
    try:
        assert (theirs(x) - explicit(x)).abs().max() > 0.1
    except RuntimeError as error:
        assert "size" in str(error)


def test_transformer_encoder__counts_its_adapters_in_eval_mode_too() -> None:
    x = torch.randn(2, 5, 8)
    torch.manual_seed(0)
    plain = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 1).eval()
    counts: dict[str, bool] = {}
    for name, library in LIBRARIES.items():
        model = trained(library, copy.deepcopy(plain), target_modules=["linear1", "linear2"])
        state = library.get_peft_model_state_dict(model)
        explicit = copy.deepcopy(plain)
        for linear in ("linear1", "linear2"):
            weight = explicit.layers[0].get_submodule(linear).weight
            weight.data += update(state, f"base_model.model.layers.0.{linear}", 4.0)
        torch.testing.assert_close(model.train()(x), explicit(x), rtol=0, atol=1e-5)
        with torch.no_grad():
            counts[name] = torch.allclose(model.eval()(x), explicit(x), atol=1e-5)
            assert counts[name] or torch.allclose(model(x), plain(x), atol=1e-5)  # as if there were no adapter
    assert counts == {"peft": False, "lumora": True}


def test_conv3d_that_starts_with_1_by_1__can_be_merged() -> None:
    torch.manual_seed(0)
    base, x = nn.Conv3d(3, 4, (1, 1, 3)), torch.randn(2, 3, 4, 4, 5)
    ours = trained(lumora.peft, nn.Sequential(copy.deepcopy(base)))
    before = ours(x)
    torch.testing.assert_close(ours.merge_and_unload()(x), before, rtol=0, atol=1e-5)
    with pytest.raises((RuntimeError, IndexError)):
        trained(peft, nn.Sequential(copy.deepcopy(base))).merge_and_unload()


@pytest.mark.parametrize("start", ["pissa", "olora", "orthogonal"])
def test_convolution__starts_from_its_weight(start: str) -> None:
    torch.manual_seed(0)
    base, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 5, 5)
    ours = trained(lumora.peft, nn.Sequential(copy.deepcopy(base)), init_lora_weights=start)
    torch.testing.assert_close(ours(x), base(x), rtol=0, atol=1e-5)
    with pytest.raises(Exception):  # noqa: B017
        trained(peft, nn.Sequential(copy.deepcopy(base)), init_lora_weights=start)(x)


def test_olora_on_conv1d__has_the_layers_shapes() -> None:
    torch.manual_seed(0)
    base, x = Conv1D(4, 6), torch.randn(3, 6)
    ours = trained(lumora.peft, nn.Sequential(copy.deepcopy(base)), init_lora_weights="olora")
    torch.testing.assert_close(ours(x), base(x), rtol=0, atol=1e-5)
    theirs = trained(peft, nn.Sequential(copy.deepcopy(base)), init_lora_weights="olora")
    with pytest.raises(RuntimeError):
        theirs(x)


class Numbered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(6, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.lin1(x))


def test_modules_to_save__match_whole_names() -> None:
    saved: dict[str, set[str]] = {}
    for name, library in LIBRARIES.items():
        model = adapted(library, Numbered(), r=2, target_modules=["0"], modules_to_save=["1"])
        wrapper = module_of(library, "utils").ModulesToSaveWrapper
        saved[name] = {path for path, m in model.get_base_model().named_modules() if isinstance(m, wrapper)}
    assert saved["lumora"] == {"body.1"}
    assert saved["peft"] == {"body.1", "lin1"}


def test_all_linear__adapts_no_projection_that_is_never_called() -> None:
    x = torch.randn(2, 5, 8)
    without_gradient: dict[str, list[str]] = {}
    for name, library in LIBRARIES.items():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = trained(library, nn.Sequential(layer), target_modules="all-linear").train()
        model(x).square().sum().backward()
        trainable = [(n, p.grad) for n, p in model.named_parameters() if p.requires_grad]
        without_gradient[name] = [n for n, g in trainable if g is None or not g.any()]
        assert trainable
    assert without_gradient["lumora"] == []
    assert any("out_proj" in n for n in without_gradient["peft"])


def test_config_of_the_caller__stays_as_it_was() -> None:
    changed: dict[str, bool] = {}
    for name, library in LIBRARIES.items():
        config = library.LoraConfig(r=2, target_modules=["0", "1"])
        before = copy.deepcopy(config)
        with quiet():
            library.get_peft_model(nn.Sequential(Conv1D(4, 6), nn.Linear(4, 3)), config)
            library.get_peft_model(nn.Sequential(Conv1D(4, 6), Conv1D(3, 4)), config)
        changed[name] = config != before
    assert changed == {"peft": True, "lumora": False}


def test_names_that_transformers_replaced__are_understood() -> None:
    config = transformers.ViTConfig(**VIT)
    options = {"r": 2, "target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    with pytest.warns(UserWarning, match="q_proj"):
        ours = lumora.peft.get_peft_model(
            transformers.ViTForImageClassification(config), lumora.peft.LoraConfig(**options)
        )
    assert {n.rpartition(".")[2] for n in ours.targeted_module_names} == {"q_proj", "v_proj"}
    with pytest.raises(ValueError):
        peft.get_peft_model(transformers.ViTForImageClassification(config), peft.LoraConfig(**options))


@pytest.mark.parametrize("kind", ["attention", "embedding"])
def test_dropout__acts_on_every_kind(kind: str) -> None:
    acts: dict[str, bool] = {}
    for name, library in LIBRARIES.items():
        base = attention() if kind == "attention" else nn.Embedding(7, 8)
        layer = trained(library, nn.Sequential(base), lora_dropout=0.5).train().get_base_model()[0]
        x = torch.randn(2, 5, 8)
        first, second = (layer(x, x, x)[0] if kind == "attention" else layer(torch.arange(7)) for _ in range(2))
        acts[name] = not torch.equal(first, second)
    assert acts == {"peft": False, "lumora": True}


def test_transposed_convolution__is_adapted() -> None:
    torch.manual_seed(0)
    base, x = nn.ConvTranspose2d(3, 4, 2, stride=2), torch.randn(2, 3, 5, 5)
    ours = trained(lumora.peft, nn.Sequential(copy.deepcopy(base)))
    before = ours(x)
    assert (before - base(x)).abs().max() > 0.1
    torch.testing.assert_close(ours.merge_and_unload()(x), before, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="not supported"):
        trained(peft, nn.Sequential(base))


@pytest.mark.parametrize("base", [nn.Conv1d(3, 4, 3), nn.Conv1d(3, 8, 2), nn.Conv3d(3, 4, 2)], ids=str)
def test_weighted_svd_of_convolutions_of_one_and_three_dimensions__gives_the_sum(base: Any) -> None:
    def is_right(library: Any) -> bool:
        model = trained(library, nn.Sequential(copy.deepcopy(base)))
        model.add_adapter("second", library.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
        model.add_weighted_adapter(["default", "second"], [0.5, 0.5], "new", combination_type="svd", svd_rank=4)
        new, first, second = (model.get_base_model()[0].get_delta_weight(name) for name in ("new", "default", "second"))
        return torch.allclose(new, 0.5 * (first + second), atol=1e-5)

    assert is_right(lumora.peft)
    with suppress(RuntimeError):
        assert not is_right(peft)


def test_frozen_adapter__stays_frozen_after_it_was_disabled(tmp_path: Path) -> None:
    trained(lumora.peft, mlp()).save_pretrained(tmp_path)
    thawed: dict[str, bool] = {}
    for name, library in LIBRARIES.items():
        model = library.PeftModel.from_pretrained(mlp(), tmp_path)
        assert not any(p.requires_grad for p in model.parameters())
        with model.disable_adapter():
            pass
        thawed[name] = any(p.requires_grad for p in model.parameters())
    assert thawed == {"peft": True, "lumora": False}


def test_unmerge__gives_back_the_very_bits() -> None:
    exact: dict[str, bool] = {}
    for name, library in LIBRARIES.items():
        base = mlp()
        before = base[0].weight.clone()
        model = trained(library, base)
        model.merge_adapter()
        model.unmerge_adapter()
        exact[name] = torch.equal(model.get_base_model()[0].base_layer.weight, before)
    assert exact == {"peft": False, "lumora": True}


def test_hot_swap__follows_rank_and_alpha_patterns(tmp_path: Path) -> None:
    x = torch.randn(3, 6)
    new = trained(lumora.peft, mlp(seed=0), target_modules=["0", "2"], rank_pattern={"0": 1}, seed=4)
    new.save_pretrained(tmp_path)
    right: dict[str, bool] = {}
    for name, library in LIBRARIES.items():
        model = trained(library, mlp(seed=0), target_modules=["0", "2"])
        module_of(library, "utils.hotswap").hotswap_adapter(model, str(tmp_path), adapter_name="default")
        right[name] = torch.allclose(model(x), new(x), atol=1e-5)
    assert right == {"peft": False, "lumora": True}


def test_loraplus__uses_the_weight_decay_it_is_given() -> None:
    decays: dict[str, float] = {}
    for name, library in LIBRARIES.items():
        optimizer = module_of(library, "optimizers").create_loraplus_optimizer(
            trained(library, mlp()), torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=4.0, weight_decay=0.1
        )
        decays[name] = optimizer.param_groups[0]["weight_decay"]
    assert decays == {"peft": 0.0, "lumora": 0.1}
