"""The three guides about models of one's own say what is true, and what PEFT says about the same models."""

import peft
import pytest
import torch
from examples import custom_mlp, custom_timm, custom_transformers

import lumora
from lumora.lora import get_base_model_state_dict


@pytest.fixture(scope="module")
def mlp():
    return custom_mlp.main(epochs=1)


@pytest.fixture(scope="module")
def poolformer():
    return custom_timm.main()


def test_mlp__counts_are_those_of_the_guide_without_the_frozen_head(mlp):
    original_head = 2000 * 2 + 2
    assert mlp.get_nb_trainable_parameters() == (56_164 - original_head, 4_100_164)


def test_mlp__counts_are_those_of_peft(mlp):
    config = peft.LoraConfig(target_modules=["seq.0", "seq.2"], modules_to_save=["seq.4"])
    theirs = peft.get_peft_model(custom_mlp.MLP(), config)
    assert mlp.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()
    assert sorted(mlp.targeted_module_names) == sorted(theirs.targeted_module_names)


def test_mlp__training_moves_adapters_and_the_saved_layer_only(mlp):
    base = custom_mlp.new_base().state_dict()
    now = get_base_model_state_dict(mlp)
    assert base.keys() == now.keys()
    assert all(torch.equal(base[key], now[key]) for key in base)
    saved = mlp.base_model.model.seq[4].modules_to_save["default"]
    assert not torch.equal(saved.weight, base["seq.4.weight"])
    assert mlp.base_model.model.seq[0].lora_B["default"].weight.abs().sum() > 0


def test_mlp__learns_what_the_untrained_base_does_not_know(capsys):
    model = custom_mlp.main(epochs=4)
    x, y = custom_mlp.points(1000, seed=5)
    base_accuracy = custom_mlp.score(custom_mlp.new_base(), x, y)[1]
    assert base_accuracy < 0.6
    assert custom_mlp.score(model, x, y)[1] > 0.8
    assert "saved and loaded again, same outputs: True" in capsys.readouterr().out


def test_timm__counts_and_names_are_those_of_peft(poolformer):
    config = peft.LoraConfig(r=8, target_modules=r".*\.mlp\.fc\d", modules_to_save=["head.fc"])
    theirs = peft.get_peft_model(custom_timm.new_base(), config)
    assert poolformer.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()
    assert sorted(poolformer.targeted_module_names) == sorted(theirs.targeted_module_names)


def test_timm__counts_are_those_of_the_guide_without_the_frozen_head(poolformer):
    original_head = 768 * 3 + 3
    assert poolformer.get_nb_trainable_parameters() == (1_064_454 - original_head, 56_467_974)


def test_transformers__the_architecture_is_unknown_and_the_error_names_what_there_is(capsys):
    custom_transformers.main()
    printed = capsys.readouterr().out
    assert "no architecture with known defaults" in printed
    assert "fc1 (4)" in printed
    assert "all adapters are live." in printed


def test_transformers__an_unknown_architecture_stays_as_it_was():
    base = custom_transformers.new_base()
    before = [name for name, _ in base.named_modules()]
    with pytest.raises(lumora.LumoraError):
        lumora.get_peft_model(base, lumora.LoraConfig())
    assert [name for name, _ in base.named_modules()] == before
    assert all(parameter.requires_grad for parameter in base.parameters())
