import json

import pytest
import safetensors.torch
from tests.bundle.making import LABELS, about_of, base_of, trained_whole
from tests.cli.bundles import run
from tests.predict.making import bundle_of

from lumora.bundle import write


def trained_numbers(file):
    return sum(tensor.numel() for tensor in safetensors.torch.load_file(file).values())


def test_inspect__bundle(lumora, tmp_path):
    folder, model, about = bundle_of("vit", tmp_path)
    ended = lumora("inspect", folder)
    assert (ended.code, "note" in ended.err) == (0, False)
    trained = trained_numbers(folder / "adapter_model.safetensors")
    for line in (
        "task:              classification",
        "labels:            3: red fox, otter, owl",
        f"base:              {about.base.name} (transformers), its head: classifier",
        f"fingerprint:       {about.base.fingerprint}",
        "method:            lora: adapters and the head",
        "r:                 2",
        f"parameters:        {trained:,}",
        "integrity:         whole: every file is as it was written",
        "recipe:            0123abcd",
        "seen as 32 × 32",
    ):
        assert line in ended.out, line
    words = " ".join(ended.out.split())
    assert "accuracy 0.8750" in words
    assert "classifier saved whole 1 51" in words
    assert f"lumora {about.versions['lumora']}" in ended.out
    assert trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_inspect__json_of_a_bundle(lumora, tmp_path):
    folder, _, about = bundle_of("segformer", tmp_path)
    seen = json.loads(lumora("inspect", folder, "--json").out)
    assert (seen["task"], seen["labels"], seen["method"]) == ("segmentation", list(LABELS), "lora")
    assert seen["base"]["fingerprint"] == about.base.fingerprint
    assert seen["files"] == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert seen["parameters"] == trained_numbers(folder / "adapter_model.safetensors")
    assert (seen["whole"], seen["problems"]) == (True, [])
    assert seen["per_class"]["otter"] == {"f1": 0.25, "support": 4.0}
    assert seen["recipe"] == about.recipe


@pytest.mark.parametrize("method", ["head", "full"])
def test_inspect__bundle_without_adapters(lumora, method, tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    write(tmp_path / "bundle", trained_whole(base, only_head=method == "head"), about_of(base, side, method))
    seen = json.loads(lumora("inspect", tmp_path / "bundle", "--json").out)
    assert seen["method"] == method
    assert seen["parameters"] == trained_numbers(tmp_path / "bundle/weights.safetensors")
    assert {"head": "the head alone", "full": "all weights"}[method] in lumora("inspect", tmp_path / "bundle").out


def test_inspect__other_versions_are_told(lumora, tmp_path):
    from tests.bundle.damaging import rewrite

    folder, _, about = bundle_of("vit", tmp_path)
    rewrite(folder, lambda values: values["versions"].update(torch="1.2.3"))
    ended = lumora("inspect", folder)
    assert ended.code == 0
    assert f"note: It was written with torch 1.2.3; {about.versions['torch']} is installed here." in ended.err


def test_inspect__a_card_may_be_edited(lumora, tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    (folder / "README.md").write_text("My own words.")
    assert "integrity:         whole" in lumora("inspect", folder).out


def test_inspect__revisions_are_of_repositories(lumora, tmp_path):
    folder, model, _ = bundle_of("vit", tmp_path)
    ended = lumora("inspect", folder, "--revision", "draft")
    assert (ended.code, ended.out) == (1, "")
    assert "is a folder here, which has no revision 'draft'" in ended.err
    model.save_pretrained(tmp_path / "adapter")
    assert lumora("inspect", tmp_path / "adapter", "--revision", "draft").code == 2


def test_inspect__bundle_as_a_program(tmp_path):
    folder, _, _ = bundle_of("vit", tmp_path)
    assert json.loads(run("inspect", folder, "--json").stdout)["whole"] is True
