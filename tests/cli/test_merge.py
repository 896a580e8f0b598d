"""`lumora merge`: others load what it writes, and get the same from it."""

import json

import pytest
import safetensors.torch
import timm
import torch
import transformers
from PIL import Image
from tests.bundle.making import LABELS, logits
from tests.bundle.test_merging import picture
from tests.cli.bundles import run
from tests.predict.making import bundle_of

from lumora.bundle import load, write
from lumora.data.durable import check_folder
from lumora.models import load_base

pytestmark = pytest.mark.slow

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def words(text):
    return " ".join(text.replace("│", " ").split())


def test_merge__pipelines_of_transformers_answer_the_same(tmp_path):
    folder, model, about = bundle_of("vit", tmp_path)
    value = json.loads(run("merge", folder, "--out", tmp_path / "plain", "--json").stdout)
    assert (value["kind"], value["out"]) == ("transformers", str(tmp_path / "plain"))
    assert value["bytes"] == sum((tmp_path / "plain" / name).stat().st_size for name in value["files"])
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= set(value["files"])
    pipeline = eval(value["snippet"], {"transformers": transformers})
    seen = picture(32)
    with torch.no_grad():
        expected = model(about.at_size(seen)[None]).logits.softmax(1)[0].tolist()
    answers = pipeline(Image.fromarray(seen.permute(1, 2, 0).numpy()))
    found = {answer["label"]: answer["score"] for answer in answers}
    assert found == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-4)


def test_merge__pipelines_of_transformers_see_the_same_masks(tmp_path):
    folder, model, about = bundle_of("segformer", tmp_path)
    run("merge", folder, "--out", tmp_path / "plain")
    pipeline = transformers.pipeline("image-segmentation", model=str(tmp_path / "plain"))
    seen = picture(64)
    with torch.no_grad():
        small = model(about.at_size(seen)[None]).logits
    ids = torch.nn.functional.interpolate(small, (64, 64), mode="bilinear").argmax(1)[0].numpy()
    for answer in pipeline(Image.fromarray(seen.permute(1, 2, 0).numpy())):
        mine = Image.fromarray(((ids == LABELS.index(answer["label"])) * 255).astype("uint8"))
        apart = torch.tensor(list(answer["mask"].get_flattened_data())) != torch.tensor(list(mine.get_flattened_data()))
        assert float(apart.float().mean()) < 0.01


def test_merge__timm_gets_the_same_model(tmp_path):
    folder, model, _ = bundle_of("timm", tmp_path)
    value = json.loads(run("merge", folder, "--out", tmp_path / "plain", "--json").stdout)
    assert value["kind"] == "timm"
    theirs = eval(value["snippet"], {"timm": timm}).eval()
    torch.testing.assert_close(logits(theirs, 64), logits(model, 64), **CLOSE)
    assert theirs.pretrained_cfg["label_names"] == list(LABELS)


def test_merge__any_other_model_is_a_state_dict(lumora, tmp_path):
    folder, model, about = bundle_of("embedded-light", tmp_path)
    ended = lumora("merge", folder, "--out", tmp_path / "plain")
    assert ended.code == 0
    assert "what it is:        a state dict: this head is of no other library" in ended.out
    plain = load_base(task=about.task, labels=LABELS).module
    plain.load_state_dict(safetensors.torch.load_file(tmp_path / "plain/model.safetensors"))
    torch.testing.assert_close(logits(plain.eval(), 64), logits(model, 64), **CLOSE)


def test_merge__quiet_is_the_folder_alone(lumora, tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    ended = lumora("merge", folder, "--out", tmp_path / "plain", "--quiet")
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'plain'}\n")


def test_merge__loses_nothing_that_is_there(lumora, tmp_path):
    folder, model, about = bundle_of("vit", tmp_path)
    other = tmp_path / "other"
    write(other, model, about)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    for place, told in [
        (folder, "is, or lies in"),
        (folder / "plain", "is, or lies in"),
        (other, "holds other things (README.md"),
        (mine, "holds other things (thesis.txt)"),
        (mine / "thesis.txt", "is a file"),
    ]:
        for force in ([], ["--force"]):
            ended = lumora("merge", folder, "--out", place, *force)
            assert (ended.code, ended.out) == (2, "")
            assert told in words(ended.err)
    assert check_folder(folder) == check_folder(other) == []
    assert load(folder).about == about
    assert (mine / "thesis.txt").read_text() == "mine"


def test_merge__replaces_its_own_where_that_is_asked_for(lumora, tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    plain = tmp_path / "plain"
    assert lumora("merge", folder, "--out", plain).code == 0
    ended = lumora("merge", folder, "--out", plain)
    assert ended.code == 2
    assert "is there already; name another folder, or replace it with --force" in words(ended.err)
    assert lumora("merge", folder, "--out", plain, "--force").code == 0
    (plain / "mine.txt").write_text("mine")
    assert lumora("merge", folder, "--out", plain, "--force").code == 2
    assert (plain / "mine.txt").exists()


def test_merge__a_base_that_moved_or_is_another(lumora, tmp_path):
    from tests.tiny_models import save_vit

    folder, model, _ = bundle_of("vit", tmp_path)
    (tmp_path / "base").rename(tmp_path / "moved")
    plain = tmp_path / "plain"
    assert lumora("merge", folder, "--out", plain).code == 1
    assert lumora("merge", folder, "--out", plain, "--base", tmp_path / "moved").code == 0
    theirs = transformers.AutoModelForImageClassification.from_pretrained(plain).eval()
    torch.testing.assert_close(logits(theirs, 32), logits(model, 32), **CLOSE)
    save_vit(tmp_path / "moved", seed=9)
    arguments = ("merge", folder, "--out", tmp_path / "second", "--base", tmp_path / "moved")
    assert lumora(*arguments).code == 1
    assert lumora(*arguments, "--allow-other-base").code == 0
