"""Models of one's own as bases."""

from __future__ import annotations

import pytest
import torch
from tests.training.tiny import assert_same, sees, sees_places, settings, weights_of
from torch import nn

import lumora
from lumora.errors import BundleError, CheckpointError, RecipeError
from lumora.models import Preprocessing
from lumora.training import finetune, read_recipe, resume
from lumora.training.loop import Ending


class Flat(nn.Module):
    """Takes pictures of 24 × 24 alone; no convolution in it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inside = nn.Linear(3 * 24 * 24, 16)
        self.classes = nn.Linear(16, 5)

    def forward(self, pixel_values):
        return self.classes(self.inside(pixel_values.flatten(1)).relu())


OWN = Preprocessing(resize=(24, 24), mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7))
ASKED = settings(train__epochs=1)


def test_module__is_adapted_in_a_copy_and_its_bundle_loads_on_it(pictures, tmp_path):
    base = sees()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    done = finetune(pictures / "classes", base, out=tmp_path / "run", settings=ASKED)
    assert done.ending is Ending.COMPLETE
    assert_same(before, base.state_dict())
    assert read_recipe(done.folder / "recipe.yaml").base.name == "module:Sees"
    predictor = lumora.load(done.bundle, base=base)
    predicted = predictor.predict(sorted((pictures / "classes" / "red").iterdir()))
    assert {prediction.probabilities.shape for prediction in predicted} == {(3,)}
    measured = predictor.evaluate(pictures / "classes")
    assert 0 <= measured["accuracy"] <= 1
    with pytest.raises(BundleError, match=r"for a Sees that was given ready; give it again: base=model"):
        lumora.load(done.bundle)


def test_module__for_masks(pictures, tmp_path):
    done = finetune(pictures / "masked", sees_places(), out=tmp_path / "run", settings=ASKED)
    predictor = lumora.load(done.bundle, base=sees_places())
    assert predictor.predict(pictures / "masked" / "images" / "0.png").mask.shape == (40, 40)


@pytest.mark.parametrize("method", ["head", "full"])
def test_module__trained_in_other_ways(pictures, tmp_path, method):
    asked = {**ASKED, "train.method": method}
    del asked["lora.r"]
    done = finetune(pictures / "classes", sees(), out=tmp_path / "run", settings=asked)
    lumora.load(done.bundle, base=sees())


def test_module__with_a_preprocessing_and_a_size_of_its_own(pictures, tmp_path):
    asked = {key: value for key, value in ASKED.items() if key != "pictures.size"}
    done = finetune(pictures / "classes", Flat(), preprocessing=OWN, out=tmp_path / "run", settings=asked)
    about = lumora.load(done.bundle, base=Flat()).about
    assert about.size == (24, 24)
    assert about.preprocessing.mean == OWN.mean
    sized = finetune(pictures / "classes", Flat(), out=tmp_path / "sized", settings={**ASKED, "pictures.size": 24})
    assert lumora.load(sized.bundle, base=Flat()).about.size == (24, 24)


def test_resume__with_another_preprocessing_is_refused(pictures, tmp_path):
    asked = {key: value for key, value in ASKED.items() if key != "pictures.size"}
    finetune(pictures / "classes", Flat(), preprocessing=OWN, out=tmp_path / "run", settings=asked)
    with pytest.raises(CheckpointError, match="another preprocessing of Flat"):
        resume(tmp_path / "run", base=Flat())
    assert resume(tmp_path / "run", base=Flat(), preprocessing=OWN).ending is Ending.COMPLETE


def test_recipe__of_a_module_wants_it_again(pictures, tmp_path):
    first = finetune(pictures / "classes", sees(), out=tmp_path / "run", settings=ASKED)
    recipe = first.folder / "recipe.yaml"
    again = finetune(base=sees(), recipe=recipe, out=tmp_path / "again")
    assert_same(weights_of(first.folder), weights_of(again.folder))
    with pytest.raises(RecipeError, match=r"adapts a Sees that was given as a module.*base=model"):
        finetune(recipe=recipe, out=tmp_path / "other")


def test_preprocessing__for_a_base_that_brings_its_own_is_refused(pictures, tmp_path):
    with pytest.raises(RecipeError, match="one that is loaded by name brings its own"):
        finetune(pictures / "classes", preprocessing=OWN, out=tmp_path / "run")


def test_data__at_hand_leave_no_path_of_an_older_recipe_behind(pictures, tmp_path):
    first = finetune(pictures / "classes", sees(), out=tmp_path / "run", settings=ASKED)
    from lumora.data import open_source

    again = finetune(
        open_source(pictures / "classes"), sees(), recipe=first.folder / "recipe.yaml", out=tmp_path / "again"
    )
    assert read_recipe(again.folder / "recipe.yaml").data.path is None
    with pytest.raises(RecipeError, match="names no data"):
        resume(tmp_path / "again", base=sees())
