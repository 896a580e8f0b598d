"""From options to the recipe that they ask for."""

import pytest
import typer

from lumora.cli.asking import method, recipe_of
from lumora.cli.data_options import labels_of
from lumora.training import parse_asked, read_recipe, write_recipe
from lumora.training.recipe import asked_of
from lumora.training.whereabouts import note_place


@pytest.fixture
def earlier(tmp_path):
    """The recipe of a run that is done."""
    (tmp_path / "run/bundle").mkdir(parents=True)
    asked = parse_asked({"data.path": "cats", "lora.r": 4, "train.epochs": 7, "run.out": str(tmp_path / "run")})
    write_recipe(asked, tmp_path / "run/recipe.yaml")
    return tmp_path / "run/recipe.yaml"


def test_recipe_of__data_options_and_settings():
    wishes = {"base.name": "timm/resnet18", "train.epochs": 3, "train.seed": None, "data.labels": ["a", "b"]}
    recipe = recipe_of("some/cats", wishes, ["lora.r=8", "lora.targets=query,value"])
    assert asked_of(recipe) == {
        "data.path": "some/cats",
        "data.labels": ("a", "b"),
        "base.name": "timm/resnet18",
        "lora.r": 8,
        "lora.targets": ("query", "value"),
        "train.epochs": 3,
    }


def test_recipe_of__folders_that_are_called_as_words_of_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("auto", "null", "5"):
        (tmp_path / name).mkdir()
        assert recipe_of(name, {}, []).data.path == name


def test_recipe_of__an_earlier_run_goes_beside_it(earlier, tmp_path):
    recipe = recipe_of(str(earlier), {"train.epochs": 2}, ["lora.r=auto"])
    assert asked_of(recipe) == {"data.path": "cats", "train.epochs": 2, "run.out": str(tmp_path / "run-2")}
    assert recipe_of(str(earlier), {"run.out": tmp_path / "new"}, []).run.out == str(tmp_path / "new")
    assert recipe_of(str(earlier), {}, ["run.out=set"]).run.out == "set"
    assert read_recipe(earlier).train.epochs == 7


def test_recipe_of__an_earlier_run_from_another_folder_names_its_data_where_they_are(earlier, tmp_path, monkeypatch):
    (tmp_path / "project/cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    note_place(earlier.parent, "cats")
    assert recipe_of(str(earlier), {}, []).data.path == "cats"
    monkeypatch.chdir(tmp_path)
    assert recipe_of(str(earlier), {}, []).data.path == str(tmp_path / "project/cats")
    assert recipe_of(str(earlier), {}, ["data.path=dogs"]).data.path == "dogs"


def test_recipe_of__a_folder_that_is_still_free_is_taken(tmp_path):
    write_recipe(parse_asked({"data.path": "cats", "run.out": str(tmp_path / "mine")}), tmp_path / "mine.yml")
    assert recipe_of(str(tmp_path / "mine.yml"), {}, []).run.out == str(tmp_path / "mine")


def test_method__and_labels():
    assert (method(False, False), method(True, False), method(False, True)) == (None, "full", "head")
    with pytest.raises(typer.BadParameter):
        method(True, True)
    assert (labels_of(None), labels_of("voc"), labels_of("a, b")) == (None, "voc", ["a", "b"])
