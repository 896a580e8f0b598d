import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from tests.bundle.making import about_of, adapted, base_of
from tests.predict.making import arrays

import lumora
from lumora.bundle import write
from lumora.data import Labels
from lumora.errors import InputError
from lumora.lora import PeftModel
from lumora.studio.html import render
from lumora.studio.trying import Answer, Tried, drawn, try_picture, write_answers
from lumora.tasks import MaskPrediction


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a picture.png"
    Image.fromarray(arrays()[0]).save(path)
    return str(path)


def test_try_picture__says_what_the_bundle_says(workshop, bundles, picture):
    tried = try_picture(workshop, picture, [str(bundles["vit"])], 1.0, with_base=False)
    [answer] = tried.answers
    right = lumora.load(bundles["vit"], device="cpu").predict(picture)
    torch.testing.assert_close(answer.prediction.probabilities, right.probabilities)
    assert answer.name == "vit"  # the run's name, and not "bundle"


def test_try_picture__the_base_is_the_model_with_its_adapters_disabled(workshop, bundles, picture):
    tried = try_picture(workshop, picture, [str(bundles["vit"])], 1.0, with_base=True)
    predictor = lumora.load(bundles["vit"], device="cpu")
    assert isinstance(predictor.model, PeftModel)
    for name, tensor in predictor.model.named_parameters():
        if ".lora_B." in name:
            tensor.data.zero_()  # nothing is added by any adapter; the head stays
    right = predictor.predict(picture)
    torch.testing.assert_close(tried.answers[0].prediction.probabilities, right.probabilities)
    assert not torch.equal(tried.answers[1].prediction.probabilities, right.probabilities)


def test_try_picture__strength_is_put_back(workshop, bundles, picture):
    before = try_picture(workshop, picture, [str(bundles["vit"])], 1.0, with_base=False).answers[0]
    half = try_picture(workshop, picture, [str(bundles["vit"])], 0.5, with_base=True).answers[1]
    after = try_picture(workshop, picture, [str(bundles["vit"])], 1.0, with_base=False).answers[0]
    assert not torch.equal(half.prediction.probabilities, before.prediction.probabilities)
    assert torch.equal(after.prediction.probabilities, before.prediction.probabilities)


def test_try_picture__adapters_that_hold_part_of_the_base_are_not_weakened(workshop, picture, tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    write(tmp_path / "bundle", adapted(base, init_lora_weights="pissa"), about_of(base, side))
    [answer] = try_picture(workshop, picture, [str(tmp_path / "bundle")], 0.5, with_base=True).answers
    right = lumora.load(tmp_path / "bundle", device="cpu").predict(picture)
    torch.testing.assert_close(answer.prediction.probabilities, right.probabilities)
    assert "they hold part of the base" in answer.detail


def test_try_picture__a_bundle_that_was_written_anew_answers(workshop, bundles, picture, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(bundles["vit"], tmp_path / "own")
    try_picture(workshop, picture, ["~/own"], 1.0, with_base=False)
    shutil.rmtree(tmp_path / "own")
    shutil.copytree(bundles["segformer"], tmp_path / "own")
    os.utime(tmp_path / "own/lumora.json")
    [answer] = try_picture(workshop, picture, ["~/own"], 1.0, with_base=False).answers
    assert isinstance(answer.prediction, MaskPrediction)


@pytest.mark.parametrize(("method", "said"), [("head", "the head alone learnt"), ("full", "all weights learnt")])
def test_try_picture__without_adapters_says_what_learnt(workshop, picture, tmp_path, method, said):
    base, side = base_of("vit", tmp_path / "base")
    write(tmp_path / "bundle", base.module.eval(), about_of(base, side, method))
    [answer] = try_picture(workshop, picture, [str(tmp_path / "bundle")], 0.5, with_base=True).answers
    assert answer.detail == f"no adapters: {said}"


@pytest.mark.parametrize(("file", "chosen", "said"), [(None, ["x"], "Choose a picture"), ("x.png", [], "bundle")])
def test_try_picture__says_what_is_missing(workshop, file, chosen, said):
    with pytest.raises(InputError, match=said):
        try_picture(workshop, file, chosen, 1.0, with_base=False)


def test_drawn__shares_of_a_mask_are_of_all_its_pixels(workshop, bundles, picture):
    tried = try_picture(workshop, picture, [str(bundles["segformer"])], 1.0, with_base=False)
    mask = tried.answers[0].prediction.mask
    [shown] = drawn(tried, 0.5)
    for colour, label, share in shown.rows:
        i = tried.answers[0].labels.index(label)
        assert share == pytest.approx(float((mask == i).float().mean()))
        assert colour == tried.answers[0].labels.palette()[i]
    assert shown.picture.address != drawn(tried, 0.0)[0].picture.address


def test_drawn__says_how_many_classes_are_not_shown():
    labels = Labels(tuple(f"class {i}" for i in range(15)))
    mask = torch.arange(15).repeat_interleave(4).reshape(6, 10)
    tried = Tried("a", torch.zeros(3, 6, 10, dtype=torch.uint8), (Answer("a", "", labels, MaskPrediction(mask), 0.0),))
    [shown] = drawn(tried, 0.5)
    assert (len(shown.rows), shown.more) == (12, 3)
    assert "and 3 more" in render("tried", answers=[shown])


def test_write_answers__masks_are_the_class_ids(workshop, bundles, picture, tmp_path):
    tried = try_picture(workshop, picture, [str(bundles["segformer"]), str(bundles["vit"])], 1.0, with_base=False)
    with zipfile.ZipFile(write_answers(tried, 0.5, tmp_path / "all.zip")) as archive:
        lines = [json.loads(line) for line in archive.read("predictions.jsonl").splitlines()]
        mask = np.asarray(Image.open(io.BytesIO(archive.read(lines[0]["mask"]))))
        pixels = np.asarray(Image.open(io.BytesIO(archive.read("a-picture.png"))))
        assert archive.testzip() is None
    assert np.array_equal(mask, tried.answers[0].prediction.mask.numpy())
    assert np.array_equal(pixels, np.asarray(Image.open(picture)))
    assert lines[1]["labels"] == [tried.answers[1].labels.names[tried.answers[1].prediction.chosen[0]]]
