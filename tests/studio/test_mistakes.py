"""The mistakes of a run, as its part of the page answers."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image
from tests.studio.made import made_run
from tests.training.tiny import assert_same, settings, weights_of

import lumora
from lumora.studio import relabelling
from lumora.studio.results_view import TRAINING, examined
from lumora.studio.tabs.mistakes import DOUBTED, WORST, Mistakes, Showing, _key_of, name_of
from lumora.training.folder import RunFolder
from lumora.training.recipe import parse_asked, read_recipe, write_recipe

WAIT = 120


@pytest.fixture
def other_run(labelled_run, pictures, tmp_path):
    """A run with the same mistakes as `labelled_run`, in data of its own."""
    shutil.copytree(pictures / "classes", tmp_path / "others")
    shutil.copytree(labelled_run, tmp_path / "runs/others")
    put_into_recipe(tmp_path / "runs/others", data__path=str(tmp_path / "others"))
    return tmp_path / "runs/others"


@pytest.fixture
def looking(workshop):
    """Begin to look into a run, and stand still before it is done: gives what lets it end, and what comes of it."""
    with ThreadPoolExecutor() as pool:
        gates = []

        def look(run):
            gate, begun = threading.Event(), threading.Event()
            gates.append(gate)

            def seen(done, of):
                begun.set()
                gate.wait(WAIT)

            found = pool.submit(examined, workshop, str(run), again=True, seen=seen)
            assert begun.wait(WAIT)
            return gate, found

        yield look
        for gate in gates:
            gate.set()


@pytest.fixture
def mistakes(workshop):
    with gr.Blocks(analytics_enabled=False):
        return Mistakes(workshop)


def put_into_recipe(run, **more):
    settings = {key.replace("__", "."): value for key, value in more.items()}
    write_recipe(parse_asked(settings, onto=read_recipe(run / "recipe.yaml")), run / "recipe.yaml")


def test_train_again__says_what_does_not_go_together_and_begins_nothing(mistakes, workshop, labelled_run):
    put_into_recipe(labelled_run, lora__start="pissa")
    said = mistakes._train_again(Showing((str(labelled_run), "validation")), None, "1")
    assert 'role="alert"' in said
    assert "pissa" in said
    assert [one.folder for one in workshop.trainings.all()] == [labelled_run]


def test_shown__a_picture_goes_to_the_editor_only_while_it_is_open(mistakes, workshop, masked_run):
    looked = examined(workshop, str(masked_run))
    at = mistakes.outputs.index(mistakes._editor)
    assert mistakes.shown(looked, WORST, None, False)[at] == gr.skip()
    assert mistakes.shown(looked, DOUBTED, None, False)[mistakes.outputs.index(mistakes.order)].visible
    assert isinstance(mistakes.shown(looked, WORST, None, True)[at], gr.ImageEditor)
    is_open, editor = mistakes._filled(Showing(looked.of), name_of(looked, looked.judged[0].key))
    assert is_open
    assert editor.value["background"] is not None


def test_shown__names_of_files_that_are_no_text_can_be_sent(mistakes, workshop, pictures, vit, tmp_path):
    data = tmp_path / "odd"
    shutil.copytree(pictures / "classes", data)
    try:
        for path in list(data.rglob("*.png")):
            path.rename(path.with_name(f"caf\udce9{path.name}"))
    except OSError:
        pytest.skip("names of files are text here")
    looked = examined(workshop, str(made_run(data, vit, tmp_path / "runs/odd")))
    which = mistakes.shown(looked, WORST, None, False)[mistakes.outputs.index(mistakes.which)]
    assert "caf?" in which.choices[0][0]
    for shown, value in which.choices:
        assert (shown + value).encode()
    assert _key_of(which.choices[0][1], looked.of) == looked.judged[0].key


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


def test_next__answers_at_once_while_another_run_is_looked_into(mistakes, workshop, labelled_run, other_run, looking):
    looked = examined(workshop, str(labelled_run))
    keys = [one.key for one in looked.mistakes(doubted_first=False)]
    gate, other = looking(other_run)
    answer = ask(mistakes._stepping(1), Showing(looked.of), WORST, False, name_of(looked, keys[0]))
    assert not other.done()
    assert answer[1 + mistakes.outputs.index(mistakes.which)].value == name_of(looked, keys[1 % len(keys)])
    gate.set()
    assert other.result(WAIT).of == (str(other_run), "validation")
    assert examined(workshop, str(labelled_run)) is looked  # nothing was evaluated anew


def test_next__answers_at_once_while_the_same_run_is_looked_into_anew(mistakes, workshop, labelled_run, looking):
    looked = examined(workshop, str(labelled_run))
    gate, again = looking(labelled_run)
    which = name_of(looked, looked.judged[0].key)
    assert ask(mistakes._stepping(1), Showing(looked.of), WORST, False, which)[0] == ""
    assert not again.done()
    gate.set()
    assert again.result(WAIT) is not looked
    assert examined(workshop, str(labelled_run)) is again.result()


def test_next__of_a_run_that_is_not_shown_any_more_changes_nothing(mistakes, workshop, labelled_run, other_run):
    seen, other = (examined(workshop, str(run)) for run in (labelled_run, other_run))

    class Changing:
        """Shows one run when the answer is asked for, and another one when it is there."""

        def __init__(self):
            self.both = [other.of, seen.of]

        @property
        def looked(self):
            return self.both.pop()

    told, *answer = mistakes._stepping(1)(Changing(), WORST, False, name_of(seen, seen.judged[0].key))
    assert told == ""
    assert all(each == gr.skip() for each in answer)


def test_save__is_of_the_run_that_the_picture_is_of(mistakes, workshop, labelled_run, other_run, tmp_path):
    looked, other = (examined(workshop, str(run)) for run in (labelled_run, other_run))
    key = looked.judged[0].key
    assert key == other.judged[0].key
    which, save = name_of(looked, key), mistakes._saving(lambda of, key, label: relabelling.relabel(of, key, [label]))
    said, *answer = save(Showing(other.of), WORST, False, which, "green")
    assert 'role="alert"' in said
    assert "Another run was looked into meanwhile" in said
    assert not list(tmp_path.glob("*.corrections"))
    assert answer[mistakes.outputs.index(mistakes.which)].value == name_of(other, other.judged[0].key)
    assert "looked into meanwhile" in mistakes._train_again(Showing(other.of), which, None)
    said, *_ = save(Showing(looked.of), WORST, False, which, "green")
    assert "colours.corrections" in said
    assert not (tmp_path / "others.corrections").exists()


def ask(answer, *given):
    """An answer, given by another thread as those of the page are."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(answer, *given).result(WAIT)


@pytest.mark.slow
def test_train_again__learns_the_painted_mask_from_where_the_run_ended(
    mistakes, workshop, pictures, segformer, tmp_path
):
    shutil.copytree(pictures / "masked", tmp_path / "places")
    asked = settings(data__near_duplicates_together=False, train__best_by="null", train__epochs=1)
    first = lumora.finetune(tmp_path / "places", str(segformer), out=workshop.runs / "places", settings=asked)
    looked = examined(workshop, str(first.folder), TRAINING)
    key = looked.judged[0].key
    ink = np.zeros((40, 40, 4), dtype=np.uint8)
    ink[:, :20] = *dict(relabelling.brush_colours(looked.labels))["green"], 255
    relabelling.repaint(looked, key, {"layers": [ink]})
    assert "places-again has begun" in mistakes._train_again(Showing(looked.of), name_of(looked, key), "2")
    again = workshop.runs / "places-again"
    workshop.trainings._children[again].wait(5 * WAIT)
    training = workshop.trainings.of(again)
    assert training.state == "done", training.said

    log = (again / "log.txt").read_text()
    assert "The mask of 1 sample is taken from" in log
    assert "begin as they are in" in log
    as_it_was, *_ = RunFolder(again).read_metrics()  # before it learns anything, on pictures that nobody has corrected
    assert as_it_was["mean_iou"] == pytest.approx(first.scores["mean_iou"])
    (tmp_path / "places.corrections").rename(tmp_path / "kept")
    without = lumora.finetune(recipe=again / "recipe.yaml", out=tmp_path / "without")
    (tmp_path / "kept").rename(tmp_path / "places.corrections")
    same = lumora.finetune(recipe=again / "recipe.yaml", out=tmp_path / "same")
    assert_same(weights_of(again), weights_of(same.folder))
    assert any(not torch.equal(weights_of(again)[name], one) for name, one in weights_of(without.folder).items())
