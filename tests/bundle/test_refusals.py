"""What is wrong with a bundle is told, and nothing is loaded."""

import shutil

import pytest
import torch
from tests.bundle.damaging import rewrite, without
from tests.bundle.making import about_of, adapted, base_of, pyramid, ready_base, save_timm, trained_whole, untouched
from tests.tiny_models import save_vit

from lumora.bundle import load, write
from lumora.errors import BundleError
from lumora.lora import LoraConfig, get_peft_model

# --- the base ---------------------------------------------------------------------------------------------------------


def test_base__with_other_weights_is_refused(vit, tmp_path):
    folder, _, about = vit
    save_vit(tmp_path / "base", seed=77)
    message = (
        rf"was made on '.*base' with the fingerprint {about.base.fingerprint}, but '.*base' has sha256:.*as it was"
    )
    with pytest.raises(BundleError, match=message):
        load(folder)
    other = load(folder, allow_other_base=True)
    assert other.base.fingerprint != about.base.fingerprint


def test_base__with_one_changed_number_is_refused(tmp_path):
    base = ready_base()
    write(tmp_path / "bundle", adapted(base), about_of(base, 64))
    changed = pyramid()
    with torch.no_grad():
        changed.stem[0].weight[0, 0, 0, 0] += 1e-6
    were = untouched(changed)
    with pytest.raises(BundleError, match="fingerprint"):
        load(tmp_path / "bundle", base=changed)
    assert all(changed.state_dict()[n].equal(t) for n, t in were.state_dict().items())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_base__of_another_architecture_is_refused(method, tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    model = adapted(base) if method == "lora" else trained_whole(base)
    write(tmp_path / "bundle", model, about_of(base, side, method))
    other = str(save_timm(tmp_path / "other"))
    for options in ({}, {"allow_other_base": True}):
        with pytest.raises(BundleError, match=r"fingerprint|lacks|does not fit|cannot be loaded"):
            load(tmp_path / "bundle", base=other, **options)


def test_base__that_is_gone_is_told(vit, tmp_path):
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(BundleError, match=r"base of the bundle .* could not be loaded: .*came from .*say where: base="):
        load(vit[0])


def test_base__that_is_a_function_is_called_only_if_the_caller_says_so(tmp_path, monkeypatch):
    (tmp_path / "somebodys.py").write_text(
        "from pathlib import Path\nfrom tests.bundle.making import pyramid\n"
        f"def make():\n    Path({str(tmp_path / 'called')!r}).touch()\n    return pyramid()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    base = ready_base()
    model = adapted(base)
    write(tmp_path / "bundle", model, about_of(base, 64))

    def name_it(values):
        values["base"] |= {"name": "python:somebodys:make", "library": "transformers"}

    rewrite(tmp_path / "bundle", name_it)
    with pytest.raises(BundleError, match=r"a function to be called.* base='python:somebodys:make'"):
        load(tmp_path / "bundle")
    assert not (tmp_path / "called").exists()
    load(tmp_path / "bundle", base="python:somebodys:make")
    assert (tmp_path / "called").exists()


# --- the head and the task --------------------------------------------------------------------------------------------


def test_head__that_is_not_in_the_adapter_is_refused(vit):
    folder, _, _ = vit
    without(folder, "adapter_model.safetensors", "classifier")
    with pytest.raises(BundleError, match=r"lacks 2 tensors of the head for classification: classifier\.weight; class"):
        load(folder)


def test_head__that_is_not_in_the_weights_is_refused(tmp_path):
    base, side = base_of("segformer", tmp_path / "base")
    write(tmp_path / "bundle", trained_whole(base), about_of(base, side, "head"))
    without(tmp_path / "bundle", "weights.safetensors", "linear_fuse")
    with pytest.raises(BundleError, match=r"lacks 1 tensors of the head for segmentation: decode_head\.linear_fuse"):
        load(tmp_path / "bundle")


@pytest.mark.parametrize("method", ["lora", "head"])
def test_head__that_would_be_lost_is_not_written(method, tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    about = about_of(base, side, method)
    if method == "lora":
        model, given = get_peft_model(base.module, LoraConfig(r=2, target_modules=["q_proj"])), {}
    else:
        model, given = base.module, {"trained": {"classifier.bias": base.module.classifier.bias}}
    advice = r"modules_to_save=\['classifier'\]" if method == "lora" else "trained="
    with pytest.raises(
        BundleError, match=rf"tensors of the head \(classifier\.weight \.\.\.\) would not be .*{advice}"
    ):
        write(tmp_path / "bundle", model, about, **given)
    assert not (tmp_path / "bundle").exists()


def test_task__another_than_asked_for_is_refused(vit):
    folder, _, _ = vit
    assert load(folder, task="classification").about.task == "classification"
    with pytest.raises(BundleError, match=r"is for classification, not for segmentation"):
        load(folder, task="segmentation")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("segmentation", r"lacks \d+ tensors of the head for segmentation: light_head"),
        ("detection", '"task" should be one of classification, multilabel, segmentation'),
    ],
)
def test_task__that_the_weights_are_not_for_is_refused(task, message, vit):
    folder, _, _ = vit
    rewrite(folder, lambda values: values.update(task=task))
    with pytest.raises(BundleError, match=message):
        load(folder)


def test_labels__that_the_head_does_not_have_are_refused(vit):
    folder, _, _ = vit
    rewrite(folder, lambda values: values["labels"].update(names=["a", "b", "c", "d"], colours=None))
    with pytest.raises(
        BundleError, match=r"cannot be loaded: .*(3, 16) instead of \(4, 16\)|\(3, 16\) instead of \(4, 16\)"
    ):
        load(folder)


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_write__tells_what_does_not_go_together(tmp_path):
    base = ready_base()
    about = about_of(base, 64)
    with pytest.raises(BundleError, match='"lora" is written from a PeftModel, not from a Pyramid'):
        write(tmp_path / "bundle", base.module, about)
    with pytest.raises(BundleError, match=r"1 were given, 1 are not in its state dict \['core.weight'\]"):
        write(tmp_path / "bundle", base.module, about_of(base, 64, "head"), trained={"core.weight": torch.zeros(1)})
    with pytest.raises(BundleError, match=r"method 'full': 1 were given, .* 12 are lacking"):
        write(
            tmp_path / "bundle", base.module, about_of(base, 64, "full"), trained={"score.bias": base.module.score.bias}
        )
    with pytest.raises(BundleError, match=r"thumbnail must be uint8 \(3, H, W\), but is float32 \(3, 4, 4\)"):
        write(tmp_path / "bundle", base.module, about_of(base, 64, "head"), thumbnail=torch.zeros(3, 4, 4))
    model = adapted(base)
    with pytest.raises(BundleError, match="written from the plain model, not a PeftModel"):
        write(tmp_path / "bundle", model, about_of(base, 64, "full"))
    model.add_adapter("second", LoraConfig(r=2, target_modules=base.targets))
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(BundleError, match=r"2 are active \(default, second\).*set_adapter"):
        write(tmp_path / "bundle", model, about)
    assert not (tmp_path / "bundle").exists()
