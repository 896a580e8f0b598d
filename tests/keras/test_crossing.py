"""Models and adapters that go from Keras to torch and back, compared by what the two frameworks compute."""

import keras
import numpy as np
import pytest
import torch
import transformers
from tests.bundle.making import about_of, adapted, trained_whole
from tests.keras.making import eager, fill, once, output, pixels, segformer, twice, vit
from tests.tiny_models import VIT

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.bundle import BaseReference, read_about, written_and_verified
from lumora.bundle import load as load_torch
from lumora.data import Labels
from lumora.errors import AdapterError, BundleError, LumoraError, LumoraWarning
from lumora.integrations.keras import (
    apply_lora,
    convert_bundle,
    count_parameters,
    describe,
    from_torch,
    load_adapter,
    load_bundle,
    save_adapter,
    save_bundle,
    set_strength,
    to_torch,
)
from lumora.models import Preprocessing, load_base
from lumora.tasks import Classification, Segmentation

CLOSE = {"rtol": 0, "atol": 1e-4}


def torch_vit(classes=5, **options):
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**{**VIT, **options}, num_labels=classes))
    for parameter in model.parameters():  # biases and norms, too
        parameter.data.normal_(0, 0.2)
    return model.eval()


def torch_segformer(activation="gelu_pytorch_tanh"):
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1, 2, 1, 1],
        hidden_sizes=[8, 12, 16, 24],
        num_attention_heads=[1, 2, 2, 4],
        sr_ratios=[4, 2, 1, 1],
        decoder_hidden_size=16,
        hidden_act=activation,
        num_labels=5,
    )
    model = transformers.SegformerForSemanticSegmentation(config)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    model.decode_head.batch_norm.running_mean.normal_()
    return model.eval()


def of_torch(model, given):
    """What a transformers model gives, as Keras's model of the same structure would."""
    with torch.no_grad():
        logits = model(torch.from_numpy(given).permute(0, 3, 1, 2)).logits
    if logits.dim() == 2:
        return logits.numpy()
    enlarged = torch.nn.functional.interpolate(logits, size=given.shape[1:3], mode="bilinear", align_corners=False)
    return enlarged.permute(0, 2, 3, 1).numpy()


KERAS = {
    "vit": (vit, 32, ["query", "value"], "predictions"),
    "segformer": (segformer, 64, ["q", "v"], "output_segmentation_head"),
}
TORCH = {
    "vit": (torch_vit, 32, ["q_proj", "v_proj"], "classifier"),
    "segformer": (torch_segformer, 64, ["q_proj", "v_proj"], "decode_head"),
}


@pytest.mark.parametrize("name", ["vit", "segformer"])
def test_model__computes_the_same_in_torch(name):
    make, side, _, _ = KERAS[name]
    model, given = make(), pixels(side=side)
    fill(model, scale=0.2)
    np.testing.assert_allclose(of_torch(to_torch(model), given), output(model, given), **CLOSE)


@pytest.mark.parametrize("name", ["vit", "segformer"])
def test_model__computes_the_same_in_keras(name):
    make, side, _, _ = TORCH[name]
    model, given = make(), pixels(side=side)
    np.testing.assert_allclose(output(from_torch(model, side=side), given), of_torch(model, given), **CLOSE)


def test_side_said_twice__is_one_side():
    model, given = torch_vit(image_size=[32, 32]), pixels(side=32)
    np.testing.assert_allclose(output(from_torch(model), given), of_torch(model, given), **CLOSE)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit", {}),
        ("vit", {"bias": "lora_only"}),
        ("vit", {"bias": "all"}),
        ("vit", {"use_rslora": True, "rank_pattern": {"query": 2}}),
        ("segformer", {"bias": "all", "batch_norm": "saved"}),
    ],
)
def test_adapter__computes_the_same_in_torch(name, options):
    make, side, targets, head = KERAS[name]
    model, given = make(), pixels(side=side)
    apply_lora(model, LoraConfig(r=3, lora_alpha=5, target_modules=targets, modules_to_save=[head], **options))
    fill(model)
    other = to_torch(model)
    assert isinstance(other, PeftModel)
    np.testing.assert_allclose(of_torch(other, given), output(model, given), **CLOSE)
    np.testing.assert_allclose(output(from_torch(other, side=side), given), output(model, given), **CLOSE)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit", {}),
        ("vit", {"bias": "lora_only"}),
        ("vit", {"use_rslora": True, "alpha_pattern": {"v_proj": 2}}),
        ("vit", {"init_lora_weights": "pissa"}),
        ("vit", {"init_lora_weights": "olora", "bias": "all"}),
        ("segformer", {}),
    ],
)
def test_adapter__computes_the_same_in_keras(name, options):
    make, side, targets, head = TORCH[name]
    model, given = make(), pixels(side=side)
    model = get_peft_model(
        model, LoraConfig(r=3, lora_alpha=5, target_modules=targets, modules_to_save=[head], **options)
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.2)
    made = from_torch(model.eval(), side=side, is_trainable=True)
    np.testing.assert_allclose(output(made, given), of_torch(model, given), **CLOSE)
    assert count_parameters(made)[0] == model.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("name", ["vit", "segformer"])
def test_layers_that_hold_others__are_saved_whole_in_torch_too(name):
    make, side, targets, head = KERAS[name]
    holding = {"vit": "backbone.vit_patching_and_embedding", "segformer": "linear_fuse"}[name]
    model, given = make(), pixels(side=side)
    apply_lora(model, LoraConfig(r=2, target_modules=targets, modules_to_save=[head, holding]))
    fill(model, scale=0.2)
    other = to_torch(model)
    np.testing.assert_allclose(of_torch(other, given), output(model, given), **CLOSE)
    again = from_torch(other, side=side, is_trainable=True)
    np.testing.assert_allclose(output(again, given), output(model, given), **CLOSE)
    assert count_parameters(again) == count_parameters(model)


def test_strength__is_carried_both_ways():
    model, given = vit(), pixels(side=32)
    apply_lora(model, LoraConfig(r=2, target_modules=["query"], modules_to_save=["predictions"]))
    fill(model)
    as_trained = output(model, given)
    set_strength(model, 0.5)
    weaker, other = output(model, given), to_torch(model)
    assert np.abs(weaker - as_trained).max() > 1e-2
    np.testing.assert_allclose(of_torch(other, given), weaker, **CLOSE)
    np.testing.assert_allclose(output(from_torch(other), given), weaker, **CLOSE)
    other.set_strength("default", 1)
    np.testing.assert_allclose(of_torch(other, given), as_trained, **CLOSE)


@pytest.mark.parametrize("option", ["use_dora", "lora_bias"])
def test_adapter_that_keras_models_cannot_have__is_refused_with_a_way_out(option):
    model = get_peft_model(torch_vit(), LoraConfig(r=2, target_modules=["q_proj"], **{option: True}))
    with pytest.raises(AdapterError, match=rf"{option}=True.*merge_and_unload"):
        from_torch(model)
    given = pixels(side=32)
    expected = of_torch(model.eval(), given)
    np.testing.assert_allclose(output(from_torch(model.merge_and_unload()), given), expected, **CLOSE)


def test_merged_adapter__is_refused():
    model = get_peft_model(torch_vit(), LoraConfig(r=2, target_modules=["q_proj"]))
    model.merge_adapter()
    with pytest.raises(AdapterError, match="unmerge_adapter"):
        from_torch(model)


TASK = Classification(Labels(("a", "b", "c", "d", "e")))
SEEN = Preprocessing(resize=(32, 32))


@twice
def test_bundle_from_keras__predicts_the_same_in_torch(tmp_path):
    base = torch_vit()
    base.save_pretrained(tmp_path / "base")
    model = from_torch(base)
    apply_lora(model, LoraConfig(r=3, target_modules=["query", "value"], modules_to_save=["predictions"]))
    fill(model)
    save_bundle(tmp_path / "in_keras", model, describe(model, TASK, SEEN, (32, 32)))
    with pytest.raises(BundleError, match="needs the name of its base"):
        convert_bundle(tmp_path / "in_keras", tmp_path / "bundle", base=from_torch(base))
    convert_bundle(tmp_path / "in_keras", tmp_path / "bundle", to=str(tmp_path / "base"), base=from_torch(base))
    loaded = load_torch(tmp_path / "bundle").model
    np.testing.assert_allclose(of_torch(loaded, pixels(side=32)), output(model, pixels(side=32)), **CLOSE)


@twice
def test_bundle_from_torch__predicts_the_same_in_keras(tmp_path):
    torch_vit().save_pretrained(tmp_path / "base")
    known = load_base(str(tmp_path / "base"), task="classification", labels=TASK.labels.names)
    model = get_peft_model(known.module, LoraConfig(r=3, target_modules=["q_proj"], modules_to_save=["classifier"]))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.2)
    about = describe(vit(), TASK, SEEN, (32, 32))
    about = type(about)(**{**vars(about), "base": BaseReference.of(known), "method": "lora"})
    written_and_verified(tmp_path / "bundle", model, about)
    convert_bundle(tmp_path / "bundle", tmp_path / "in_keras")
    made = load_bundle(tmp_path / "in_keras", base=from_torch(known.module))
    np.testing.assert_allclose(output(made, pixels(side=32)), of_torch(model.eval(), pixels(side=32)), **CLOSE)


PLACES = Segmentation(TASK.labels)


def save_keras_segformer(folder, base, **config):
    """A Keras bundle on a torch SegFormer, and the model."""
    model = apply_lora(from_torch(base, side=64), LoraConfig(r=2, **config))
    fill(model, scale=0.2)
    save_bundle(folder, model, describe(model, PLACES, Preprocessing(resize=(64, 64)), (64, 64)))
    return model


@eager
@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q", "v"], "modules_to_save": ["output_segmentation_head"]},
        # Adapters in the decode head, too, which torch saves whole:
        {"target_modules": "all-linear", "modules_to_save": ["linear_fuse"]},
    ],
    ids=["output", "adapters in the head"],
)
def test_segformer_bundle_from_keras__predicts_the_same_in_torch_and_back(config, tmp_path):
    base, given = torch_segformer(), pixels(side=64)
    base.save_pretrained(tmp_path / "base")
    model = save_keras_segformer(tmp_path / "in_keras", base, **config)
    kept = {"base": from_torch(base, side=64)}
    convert_bundle(tmp_path / "in_keras", tmp_path / "in_torch", to=str(tmp_path / "base"), **kept)
    loaded = load_torch(tmp_path / "in_torch")
    np.testing.assert_allclose(of_torch(loaded.model, given), output(model, given), **CLOSE)
    assert loaded.model.peft_config["default"].modules_to_save == ["decode_head"]
    convert_bundle(tmp_path / "in_torch", tmp_path / "again")
    again = load_bundle(tmp_path / "again", **kept)
    np.testing.assert_allclose(output(again, given), output(model, given), **CLOSE)


def save_torch_vit(folder, method):
    """A bundle of a torch ViT on a saved base, and the model."""
    torch_vit().save_pretrained(folder / "base")
    known = load_base(str(folder / "base"), task="classification", labels=TASK.labels.names)
    model = adapted(known) if method == "lora" else trained_whole(known, only_head=method == "head")
    written_and_verified(folder / "bundle", model, about_of(known, 32, method, labels=TASK.labels))
    return model


@once
@pytest.mark.parametrize("method", ["lora", "head", "full"])
def test_bundle_of_each_method__predicts_the_same_in_keras_and_back(method, tmp_path):
    """With "lora", everything that can be adapted is."""
    model, given = save_torch_vit(tmp_path, method), pixels(side=32)
    convert_bundle(tmp_path / "bundle", tmp_path / "in_keras")
    base = from_torch(torch_vit())
    made = load_bundle(tmp_path / "in_keras", base=base)
    np.testing.assert_allclose(output(made, given), of_torch(model, given), **CLOSE)
    assert read_about(tmp_path / "in_keras").method == ("lora" if method == "lora" else "full")
    convert_bundle(tmp_path / "in_keras", tmp_path / "back", to=str(tmp_path / "base"), base=base)
    np.testing.assert_allclose(of_torch(load_torch(tmp_path / "back").model, given), of_torch(model, given), **CLOSE)


def test_adapter_of_a_carried_model__is_read_by_another_one(tmp_path):
    """Paths do not depend on what was built before."""
    model = apply_lora(segformer(), LoraConfig(r=2, target_modules=["q"], modules_to_save=["linear_fuse"]))
    fill(model)
    save_adapter(model, tmp_path)
    segformer()
    again = load_adapter(segformer(), tmp_path)
    np.testing.assert_allclose(output(again, pixels(side=64)), output(model, pixels(side=64)), atol=1e-6)


@once
def test_exact_gelu__is_warned_about():
    with pytest.warns(LumoraWarning, match="tanh approximation"):
        from_torch(torch_segformer("gelu"), side=64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: to_torch(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])), "structure of Sequential"),
        (lambda: from_torch(torch.nn.Linear(2, 2)), "structure of Linear"),
        (
            lambda: from_torch(
                transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, hidden_act="relu"))
            ),
            "hidden_act='relu'",
        ),
        (
            lambda: from_torch(transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, qkv_bias=False))),
            "qkv_bias=False",
        ),
        (lambda: from_torch(torch_vit(image_size=[32, 64])), r"square pictures.*image_size=\[32, 64\]"),
        (lambda: from_torch(torch_vit(), side=64), "of 32 x 32, not of 64"),
        (lambda: from_torch(torch_segformer(), side=100), "multiple of 32. The next one is side=128"),
        (lambda: from_torch(torch_segformer(), side=0), "The next one is side=32"),
    ],
)
def test_models_without_counterpart__are_refused(make, words):
    with pytest.raises(LumoraError, match=words):
        make()


def test_adapter_of_what_torch_has_no_module_for__is_refused():
    model = apply_lora(vit(), LoraConfig(r=2, target_modules=["position_embedding"]))
    with pytest.raises(AdapterError, match="no counterpart"):
        to_torch(model)
