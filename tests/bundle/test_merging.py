"""What a bundle is merged into is loaded by others, who get the same from it."""

import json
import pickle

import pytest
import safetensors.torch
import timm
import torch
import transformers
from PIL import Image
from tests.bundle.making import (
    LABELS,
    about_of,
    adapted,
    base_of,
    logits,
    pyramid,
    ready_base,
    trained_whole,
)

from lumora.bundle import write
from lumora.bundle.merging import merge
from lumora.bundle.timm_config import timm_values
from lumora.errors import BundleError
from lumora.models import Preprocessing, load_base

pytestmark = pytest.mark.slow

METHODS = ["lora", "head", "full"]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def bundled(kind, method, tmp_path):
    base, side = base_of(kind, tmp_path / "base")
    about = about_of(base, side, method)
    model = adapted(base) if method == "lora" else trained_whole(base, only_head=method == "head")
    write(tmp_path / "bundle", model, about)
    return model, about, side


def picture(side):
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(1)) * 255
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")[0]
    return smooth.round().to(torch.uint8)


def pil(pixels):
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("method", METHODS)
def test_transformers__pipeline_loads_it(method, tmp_path):
    model, about, side = bundled("vit", method, tmp_path)
    merged = merge(tmp_path / "bundle", tmp_path / "plain")
    assert merged.kind == "transformers"
    assert merged.snippet == f'transformers.pipeline("image-classification", model="{tmp_path / "plain"}")'
    pipeline = eval(merged.snippet, {"transformers": transformers})
    torch.testing.assert_close(logits(pipeline.model, side), logits(model, side), **CLOSE)
    seen = picture(side)
    with torch.no_grad():
        expected = model(about.at_size(seen)[None]).logits.softmax(1)[0]
    found = {answer["label"]: answer["score"] for answer in pipeline(pil(seen))}
    assert found == pytest.approx(dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_transformers__pipeline_draws_masks(method, tmp_path):
    model, about, side = bundled("segformer", method, tmp_path)
    merged = merge(tmp_path / "bundle", tmp_path / "plain")
    pipeline = eval(merged.snippet, {"transformers": transformers})
    torch.testing.assert_close(logits(pipeline.model, side), logits(model, side), **CLOSE)
    seen = picture(side)
    with torch.no_grad():
        small = model(about.at_size(seen)[None]).logits
    ids = torch.nn.functional.interpolate(small, (side, side), mode="bilinear", align_corners=False).argmax(1)[0]
    for answer in pipeline(pil(seen)):
        mine = ids == LABELS.index(answer["label"])
        theirs = torch.tensor(list(answer["mask"].get_flattened_data())).view(side, side) > 0
        assert float((mine == theirs).float().mean()) > 0.99


def test_transformers__checkpoint_tells_labels_and_no_place(tmp_path):
    bundled("vit", "lora", tmp_path)
    merge(tmp_path / "bundle", tmp_path / "plain")
    config = json.loads((tmp_path / "plain/config.json").read_text())
    assert config["id2label"] == {"0": "red fox", "1": "otter", "2": "owl"}
    assert config["architectures"] == ["ViTForImageClassification"]
    assert str(tmp_path) not in json.dumps(config)
    stored = safetensors.torch.load_file(tmp_path / "plain/model.safetensors")
    assert not any("lora" in name for name in stored)
    again = load_base(str(tmp_path / "plain"), task="classification", labels=LABELS)
    assert again.module.classifier.weight.equal(stored["classifier.weight"])


@pytest.mark.parametrize("kind", ["timm", "embedded", "embedded-multilabel"])
@pytest.mark.parametrize("method", METHODS)
def test_timm__loads_it(kind, method, tmp_path):
    model, about, side = bundled(kind, method, tmp_path)
    merged = merge(tmp_path / "bundle", tmp_path / "plain")
    assert merged.kind == "timm"
    theirs = eval(merged.snippet, {"timm": timm}).eval()
    torch.testing.assert_close(logits(theirs, side), logits(model, side), **CLOSE)
    config = (tmp_path / "plain/config.json").read_text()
    assert json.loads(config)["label_names"] == list(LABELS)
    assert str(tmp_path) not in config
    prepared = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)
    seen = picture(150)
    apart = (prepared(pil(seen)) - about.at_size(seen)).abs().max() * min(about.preprocessing.std) * 255
    assert float(apart) <= 1.01


@pytest.mark.parametrize("kind", ["timm", "embedded-multilabel"])
def test_timm__is_a_model_of_transformers_too(kind, tmp_path):
    model, about, _ = bundled(kind, "lora", tmp_path)
    merge(tmp_path / "bundle", tmp_path / "plain")
    pipeline = transformers.pipeline("image-classification", model=str(tmp_path / "plain"))
    seen = picture(150)
    with torch.no_grad():
        logits = model(about.at_size(seen)[None])[0]
    expected = logits.sigmoid() if kind == "embedded-multilabel" else logits.softmax(0)
    found = {answer["label"]: answer["score"] for answer in pipeline(pil(seen))}
    assert found == pytest.approx(
        dict(zip(LABELS, expected.tolist(), strict=True)), abs=2e-2
    )  # theirs resizes in 8 bits


@pytest.mark.parametrize("kind", ["embedded-light", "vit-light"])
def test_others__become_a_state_dict(kind, tmp_path):
    model, about, side = bundled(kind, "lora", tmp_path)
    merged = merge(tmp_path / "bundle", tmp_path / "plain")
    assert merged.kind == "tensors"
    base = load_base(about.base.name, task=about.task, labels=LABELS)
    eval(merged.snippet, {"model": base.module, "safetensors": safetensors})
    torch.testing.assert_close(logits(base.module, side), logits(model, side), **CLOSE)
    assert (tmp_path / "plain/lumora.json").read_bytes() == (tmp_path / "bundle/lumora.json").read_bytes()


def test_others__ready_modules_need_their_base(tmp_path):
    base = ready_base()
    model = adapted(base)
    write(tmp_path / "bundle", model, about_of(base, 64))
    with pytest.raises(BundleError, match="given ready; give it again"):
        merge(tmp_path / "bundle", tmp_path / "plain")
    merge(tmp_path / "bundle", tmp_path / "plain", base=pyramid())
    plain = pyramid(3)
    plain.load_state_dict(safetensors.torch.load_file(tmp_path / "plain/model.safetensors"))
    torch.testing.assert_close(logits(plain.eval(), 64), logits(model, 64), **CLOSE)


def test_merge__that_gives_something_else_is_not_kept(tmp_path, monkeypatch):
    bundled("vit", "lora", tmp_path)
    whole = transformers.ViTForImageClassification.save_pretrained

    def spoilt(model, folder):
        with torch.no_grad():
            model.classifier.bias += 1
        whole(model, folder)

    monkeypatch.setattr(transformers.ViTForImageClassification, "save_pretrained", spoilt)
    with pytest.raises(BundleError, match=r"not that of the bundle; it was not kept\. The outputs differ"):
        merge(tmp_path / "bundle", tmp_path / "plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "bundle"]


def test_merge__writes_no_pickle(tmp_path):
    bundled("timm", "lora", tmp_path)
    merge(tmp_path / "bundle", tmp_path / "plain")
    for path in (tmp_path / "plain").iterdir():
        with pytest.raises(Exception, match=r".*"):
            pickle.loads(path.read_bytes())
    assert {path.suffix for path in (tmp_path / "plain").iterdir()} == {".json", ".safetensors", ".md"}


@pytest.mark.parametrize("resize", range(33, 300, 7))
def test_timm_values__lead_timm_to_the_same_size(resize):
    values = timm_values(Preprocessing(resize=resize, crop=(32, 32)))
    found = timm.data.create_transform(**{**values, "input_size": (3, 32, 32)}, is_training=False)
    assert found.transforms[0].size == resize
