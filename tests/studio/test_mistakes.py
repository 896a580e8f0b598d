"""The mistakes of a run, as its part of the page answers."""

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from tests.studio.made import made_run

from lumora.studio.results_view import examined
from lumora.studio.tabs.mistakes import WORST, Mistakes
from lumora.training.recipe import parse_asked, read_recipe, write_recipe


@pytest.fixture
def mistakes(workshop):
    with gr.Blocks(analytics_enabled=False):
        return Mistakes(workshop)


def put_into_recipe(run, **more):
    settings = {key.replace("__", "."): value for key, value in more.items()}
    write_recipe(parse_asked(settings, onto=read_recipe(run / "recipe.yaml")), run / "recipe.yaml")


def test_train_again__says_what_does_not_go_together_and_begins_nothing(mistakes, workshop, labelled_run):
    put_into_recipe(labelled_run, lora__start="pissa")
    said = mistakes._train_again((str(labelled_run), "validation"), "1")
    assert 'role="alert"' in said
    assert "pissa" in said
    assert [one.folder for one in workshop.trainings.all()] == [labelled_run]


def test_shown__a_picture_goes_to_the_editor_only_while_it_is_open(mistakes, workshop, masked_run):
    looked = examined(workshop, str(masked_run))
    at = mistakes.outputs.index(mistakes._editor)
    assert mistakes.shown(looked, WORST, None, False)[at] == gr.skip()
    assert isinstance(mistakes.shown(looked, WORST, None, True)[at], gr.ImageEditor)
    is_open, editor = mistakes._filled((str(masked_run), "validation"), looked.judged[0].key)
    assert is_open
    assert editor.value["background"] is not None


def test_shown__a_large_picture_is_made_smaller_for_the_editor(mistakes, workshop, pictures, segformer, tmp_path):
    for path in (pictures / "masked").rglob("*.*"):
        to = tmp_path / "large" / path.relative_to(pictures / "masked")
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            to.write_bytes(path.read_bytes())
        else:
            Image.open(path).resize((1500, 600), Image.Resampling.NEAREST).save(to)
    run = made_run(tmp_path / "large", segformer, tmp_path / "runs/large")
    looked = examined(workshop, str(run))
    editor = mistakes.shown(looked, WORST, None, True)[mistakes.outputs.index(mistakes._editor)]
    assert editor.canvas_size == (1024, 410)
    assert np.asarray(Image.open(editor.value["background"]["path"])).shape[:2] == (410, 1024)
