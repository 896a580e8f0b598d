import dataclasses
import json
import math

import pytest
from tests.bundle.making import LABELS, about_of, base_of, ready_base

from lumora.bundle import BaseReference
from lumora.bundle.about import FORMAT, about_from_json, about_to_json
from lumora.data import Labels
from lumora.errors import BundleError
from lumora.models import Preprocessing


@pytest.fixture
def about():
    return about_of(ready_base(), 64)


def changed(about, **changes):
    """The text with other values; a dotted name means one inside, and None takes it out."""
    values = json.loads(about_to_json(about))
    for path, value in changes.items():
        *outer, name = path.split("__")
        inside = values
        for part in outer:
            inside = inside[part]
        if value is None:
            del inside[name]
        else:
            inside[name] = value
    return json.dumps(values)


def test_about__comes_back_from_json_as_it_was(about):
    about = dataclasses.replace(
        about,
        task="multilabel",
        threshold=0.25,
        labels=Labels(("naïve café", "b|c", "日本")),
        preprocessing=Preprocessing(
            256, (224, 224), "floor", 480, "bicubic", 1.0, (0.0, 0.5, 1.0), bgr=True, notes=("a",)
        ),
        size=(96, 128),
    )
    assert about_from_json(about_to_json(about)) == about


def test_about__numbers_that_are_none_are_valid_json(about):
    about = dataclasses.replace(about, metrics={"iou": math.nan}, per_class={"otter": {"iou": math.inf}})
    text = about_to_json(about)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    read = about_from_json(text)
    assert math.isnan(read.metrics["iou"])
    assert math.isnan(read.per_class["otter"]["iou"])


def test_about__what_is_unknown_in_the_same_format_is_left_out(about):
    assert about_from_json(changed(about, colour="blue")) == about


def test_about__a_newer_format_is_refused(about):
    text = changed(about, format=FORMAT + 1, versions={"lumora": "9.1"})
    with pytest.raises(
        BundleError, match=rf"format {FORMAT + 1}, written by Lumora 9\.1; .* reads format {FORMAT}\. .*-U"
    ):
        about_from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": None}, '"task" is missing'),
        ({"task": "detection"}, '"task" should be one of classification, multilabel, segmentation, but is "detection"'),
        ({"format": "1"}, '"format" should be a whole number above 0, but is "1"'),
        ({"labels": ["a"]}, r'"labels" should be an object, but is \["a"\]'),
        ({"labels__names": "abc"}, '"labels.names" should be a list of texts'),
        ({"labels__names": ["a", "a"]}, '"labels": Labels must differ'),
        ({"labels__colours": [[1, 2]]}, r'"labels.colours" should be a list of \[red, green, blue\]'),
        ({"size": [224]}, r'"size" should be a height and a width, but is \[224\]'),
        ({"size": [224, True]}, '"size" should be a height and a width'),
        ({"method": "dora"}, '"method" should be one of lora, head, full'),
        ({"base__width": 0}, '"base.width" should be a whole number above 0, but is 0'),
        ({"base__name": 3}, '"base.name" should be a text'),
        ({"base__head": "heavy"}, '"base.head" should be one of auto, own, light'),
        ({"base__heads": None}, '"base.heads" is missing'),
        ({"preprocessing__mean": [0.5]}, '"preprocessing.mean" should be three numbers'),
        ({"preprocessing__resize": "all"}, '"preprocessing.resize" should be a height and a width, but is "all"'),
        ({"preprocessing__interpolation": "magic"}, '"preprocessing.interpolation" should be one of nearest'),
        ({"preprocessing__bgr": "no"}, '"preprocessing.bgr" should be true or false'),
        ({"preprocessing__grey": True}, '"preprocessing": Preprocessing has no grey'),
        ({"metrics": {"accuracy": "high"}}, '"metrics" should be numbers by name'),
        ({"per_class": {"otter": 1}}, '"per_class.otter" should be numbers by name'),
        ({"versions": {"lumora": 1}}, '"versions" should be texts by name'),
        ({"threshold": "half"}, '"threshold" should be a number'),
        ({"recipe": []}, '"recipe" should be an object'),
    ],
)
def test_about__what_is_missing_or_of_another_type_is_named(about, changes, message):
    with pytest.raises(BundleError, match=rf"^here: {message}"):
        about_from_json(changed(about, **changes), "here")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[]", "3"])
def test_about__what_is_no_object_is_refused(text):
    with pytest.raises(BundleError, match=r"^lumora.json(:| is not)"):
        about_from_json(text)


def test_reference__a_folder_is_noted_by_its_whole_path(tmp_path, monkeypatch):
    base, _ = base_of("vit", tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    reference = BaseReference.of(dataclasses.replace(base, name="base"))
    assert reference.name == str(tmp_path / "base")
    assert reference.heads == ("classifier",)


def test_reference__licence_and_source_come_along():
    base, _ = base_of("embedded", None)
    reference = BaseReference.of(base, head="light", width=32)
    assert (reference.name, reference.library) == ("lumora/efficientnet-lite0", "lumora")
    assert (reference.head, reference.width, reference.licence) == ("light", 32, "apache-2.0")
    assert reference.source.startswith("https://")


def test_at_size__crops_for_one_label_and_keeps_all_for_a_mask(about):
    about = dataclasses.replace(about, preprocessing=Preprocessing(resize=256, crop=(224, 224)), size=(112, 112))
    assert (about.at_size.resize, about.at_size.crop) == (128, (112, 112))
    whole = dataclasses.replace(about, task="segmentation").at_size
    assert (whole.resize, whole.crop) == ((112, 112), None)
    assert len(about.labels) == len(LABELS)
