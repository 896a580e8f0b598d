import ast
import dataclasses
import math

import huggingface_hub
import pytest
import torch
import yaml
from PIL import Image
from tests.bundle.making import LABELS, about_of, adapted, base_of, logits, ready_base

from lumora.bundle import BaseReference, write
from lumora.bundle.card import PLACE, card
from lumora.data import Labels


@pytest.fixture
def about():
    about = about_of(ready_base(), 64)
    base = BaseReference(
        "google/vit-base-patch16-224",
        "sha256:00",
        "auto",
        128,
        "transformers",
        ("classifier",),
        "apache-2.0",
        "https://huggingface.co/google/vit-base-patch16-224",
    )
    return dataclasses.replace(about, base=base)


def written(about, **options):
    return huggingface_hub.ModelCard(card(about, parameters=667_493, **options))


def on(about, **changes):
    return dataclasses.replace(about, base=dataclasses.replace(about.base, **changes))


def code_of(text):
    """The Python blocks of a card."""
    return [part.partition("```")[0] for part in text.split("```python\n")[1:]]


def test_front_matter__says_what_the_hub_shows(about):
    found = written(about).data.to_dict()
    assert found == {
        "base_model": "google/vit-base-patch16-224",
        "library_name": "lumora",
        "pipeline_tag": "image-classification",
        "license": "apache-2.0",
        "tags": ["lumora", "lora", "classification"],
    }


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("/home/me/models/vit", "transformers"),
        ("lumora/efficientnet-lite0", "lumora"),
        ("torchvision/vit_b_16", "torchvision"),
        ("Pyramid", "module"),
    ],
)
def test_front_matter__names_no_base_that_is_not_on_the_hub(name, library, about):
    assert written(on(about, name=name, library=library)).data.base_model is None


def test_front_matter__of_timms_models_names_their_repository(about):
    timms = on(about, name="timm/poolformer_m36.sail_in1k", library="timm")
    assert written(timms).data.base_model == "timm/poolformer_m36.sail_in1k"


@pytest.mark.parametrize("licence", [None, "see: the page\nlicense: mit", "[]", "apache 2"])
def test_front_matter__leaves_out_a_licence_that_is_no_identifier(licence, about):
    assert written(on(about, licence=licence)).data.license is None


def test_front_matter__of_masks(about):
    found = written(dataclasses.replace(about, task="segmentation", method="full")).data
    assert found.pipeline_tag == "image-segmentation"
    assert found.tags == ["lumora", "segmentation"]


def test_text__tells_results_licence_source_and_sizes(about):
    text = written(about).text
    assert "# Image classification on google/vit-base-patch16-224" in text
    assert "- base: `google/vit-base-patch16-224` from https://huggingface.co/google/vit-base-patch16-224" in text
    assert "- licence of the base: apache-2.0" in text
    assert "667,493 numbers are kept here" in text
    assert "seen as 64 × 64" in text
    assert "| accuracy | 0.875 |\n| macro f1 | 0.5 |" in text.replace("macro f1", "macro f1")
    assert "| otter | 0.25 | 4 |" in text
    assert "| owl | – | – |" in text
    assert "Recipe `0123abcd`." in text
    recipe = text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(recipe) == about.recipe
    assert "thumbnail" not in text
    assert "](thumbnail.jpg)" in written(about, thumbnail=True).text


def test_text__an_unknown_licence_is_said(about):
    assert "licence of the base: not known; look it up before you share this" in written(on(about, licence=None)).text


def test_text__does_not_tell_where_folders_lie(about):
    home = on(about, name="/home/me/secret/vit", source="/home/me/secret/vit")
    home = dataclasses.replace(home, recipe={"data": {"path": "/home/me/secret/foxes", "columns": ["/secret/a"]}})
    text = card(home, parameters=1)
    assert "secret" not in text
    assert "`vit`" in text
    assert "path: foxes" in text


def test_text__names_of_labels_stay_in_their_cells(about):
    odd = dataclasses.replace(about, labels=Labels(("a|b", "c\nd", "<i>*e*</i>")), per_class={"a|b": {"f1": math.nan}})
    text = written(odd).text
    assert "| a\\|b | – |\n| c d | – |\n| \\<i\\>\\*e\\*\\</i\\> | – |" in text


def test_text__many_labels_are_folded_away(about):
    names = tuple(f"label {i}" for i in range(30))
    many = dataclasses.replace(about, labels=Labels(names), per_class={name: {"f1": 0.5} for name in names})
    assert "<summary>30 labels</summary>" in written(many).text


def test_text__says_when_a_label_is_said(about):
    assert "from a probability of 0.4" in written(dataclasses.replace(about, task="multilabel", threshold=0.4)).text


@pytest.mark.parametrize("task", ["classification", "multilabel", "segmentation"])
def test_snippets__are_what_one_would_type(task, about):
    blocks = code_of(card(dataclasses.replace(about, task=task), parameters=1, place="me/foxes"))
    for block in blocks:
        ast.parse(block)
    assert blocks[0].startswith('import lumora\n\nmodel = lumora.load("me/foxes")\nprediction = model.predict("pic')
    assert 'PeftModel.from_pretrained(base, "me/foxes")' in blocks[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "segformer", "embedded-multilabel"])
def test_snippets__run(kind, tmp_path, monkeypatch, capsys):
    base, side = base_of(kind, tmp_path / "base")
    model = adapted(base)
    write(tmp_path / "bundle", model, about_of(base, side))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40), (200, 30, 60)).save("picture.jpg")
    snippets = code_of((tmp_path / "bundle/README.md").read_text())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    exec(snippets[0].replace(PLACE, "bundle"), {})
    printed = capsys.readouterr().out
    if kind == "segformer":
        assert printed == "torch.Size([40, 50])\n"
    else:
        assert all(line.rpartition(" ")[0] in LABELS and line.endswith("%") for line in printed.splitlines())
    named = snippets[1].replace(PLACE, "bundle").replace("load_base('base'", f"load_base({str(tmp_path / 'base')!r}")
    spaces = {}
    exec(named, spaces)
    torch.testing.assert_close(logits(spaces["model"].eval(), side), logits(model, side), rtol=1e-4, atol=1e-4)


def test_snippets__give_the_base_that_has_no_name(about):
    first = code_of(card(on(about, name="Pyramid", library="module"), parameters=1))[0]
    assert f'lumora.load("{PLACE}", base=base)' in first
    first = code_of(card(on(about, name="python:a.b:c", library="python"), parameters=1))[0]
    assert f'lumora.load("{PLACE}", base="python:a.b:c")' in first


def test_snippets__of_other_methods_have_no_peft(about):
    assert "peft" not in card(dataclasses.replace(about, method="head"), parameters=1)
