import re
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import huggingface_hub
import numpy as np
import pytest
import torch
from tests.studio.made import made_run

from lumora.data import Labels, open_source
from lumora.errors import DataError, InputError
from lumora.predict import load
from lumora.studio.data_view import open_data, place_of
from lumora.studio.html import render
from lumora.studio.relabelling import NOWHERE, brush_colours, relabel, repaint, replace_class, strokes
from lumora.studio.results_view import (
    TRAINING,
    compared,
    drawn_mistake,
    examined,
    finished_runs,
    meant,
    since,
    true_mask,
)
from lumora.studio.tabs.mistakes import Mistakes, Showing
from lumora.training.recipe import read_recipe
from lumora.training.report.classes import COUNTED
from lumora.training.report.telling import percent


@pytest.fixture
def looked(workshop, labelled_run):
    return examined(workshop, str(labelled_run))


@pytest.fixture
def looked_at_masks(workshop, masked_run):
    return examined(workshop, str(masked_run))


def opened(data):
    """All samples, as whoever opens the data has them."""
    source = open_source(data, near_duplicates_together=False)
    return {sample.key: sample for samples in source.splits.values() for sample in samples}


def test_finished_runs__have_their_scores(labelled_run):
    shutil.copytree(labelled_run, labelled_run.with_name("begun"), ignore=shutil.ignore_patterns("bundle"))
    [run] = finished_runs(labelled_run.parent)
    assert (run.name, run.about.metrics) == ("colours", {"accuracy": 0.5})
    assert run.progress.score == pytest.approx(0.5)
    assert compared([run, run]).best == {"accuracy": 0.5}
    assert compared([run]).best == {}


def test_compared__has_a_chart_for_each_measure_and_in_it_a_line_for_each_run(labelled_run, masked_run):
    runs = finished_runs(labelled_run.parent)
    charts = {chart.title: chart for chart in compared(runs).charts}
    assert charts.keys() == {"Loss", "Accuracy", "Mean IoU", "Learning rate"}
    names = [run.name for run in runs]
    assert all([series.name for series in chart.series] == names for chart in charts.values())
    assert [bool(series.lines) for series in charts["Accuracy"].series] == [name == "colours" for name in names]
    page = render("comparison", table=compared(runs))
    assert page.count('role="img"') == 4
    assert page.count("<h3") == 0


def test_examined__finds_the_mistakes_that_the_bundle_makes(looked, labelled_run):
    predictor = load(labelled_run / "bundle", device="cpu")
    samples = open_source(looked.data, near_duplicates_together=False).splits["validation"]
    wrong = {s.key for s in samples if predictor.predict(s).chosen[0] != s.target}
    assert wrong
    assert {judged.key for judged in looked.judged} == wrong
    for order in (True, False):
        assert {one.key for one in looked.mistakes(doubted_first=order)} == wrong
    confusion = looked.found.confusion
    assert int(confusion.sum()) == len(samples)
    assert int(confusion.sum() - confusion.diagonal().sum()) == len(wrong)


def on_page(looked):
    """The matrix's counts by (meant, said), and the cells of each class's row, as they stand on the page."""
    page = render("examined", looked=looked, name="a run", counted_measures=COUNTED)
    cells = re.findall(r'title="(\w+), said (\w+): ([\d,]+) of [\d,]+ \(', page)
    table = page.partition('lm-classes"><thead>')[2]
    rows = (re.sub(r"<[^>]*>", "\n", row).split("\n") for row in table.partition("<tbody>")[2].split("</tr>"))
    found = [[text.strip() for text in row if text.strip()] for row in rows]
    head = [text for text in re.sub(r"<[^>]*>", "\n", table.partition("</thead>")[0]).split("\n") if text.strip()]
    matrix = {(meant, said): int(count.replace(",", "")) for meant, said, count in cells}
    return matrix, {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in found if len(row) == len(head)}


@pytest.mark.parametrize("kind", ["looked", "looked_at_masks"])
def test_examined__the_matrix_and_each_class_on_the_page_are_what_counting_says(request, kind):
    looked = request.getfixturevalue(kind)
    predictor, names = load(looked.subject.folder.bundle, device="cpu"), looked.labels.names
    counts = np.zeros((3, 3), dtype=int)
    for sample in open_source(looked.data, near_duplicates_together=False).splits["validation"]:
        said = predictor.predict(sample)
        if kind == "looked":
            counts[sample.target, said.chosen[0]] += 1
        else:
            np.add.at(counts, (sample.mask().numpy().ravel(), said.mask.numpy().ravel()), 1)
    matrix, classes = on_page(looked)
    assert matrix == {(names[i], names[j]): counts[i, j] for i in range(3) for j in range(3) if counts[i, j]}
    assert set(classes) <= set(names)
    assert len(classes) > 1
    for i, name in enumerate(names):
        right, meant, said = counts[i, i], counts[i].sum(), counts[:, i].sum()
        row = classes.get(name)
        if row is None:
            assert not meant
        elif kind == "looked_at_masks":
            assert row["IoU"] == percent(right / (meant + said - right))
            assert row["Accuracy"] == (percent(right / meant) if meant else "–")
        else:
            assert row["Recall"] == percent(right / max(meant, 1))
            assert row["Precision"] == percent(right / max(said, 1))  # as scikit-learn has it where nothing was said
            assert row["Pictures"] == str(meant)


def test_examined__of_the_pictures_for_training_finds_what_a_training_can_learn_anew(workshop, labelled_run):
    seen = []
    looked = examined(workshop, str(labelled_run), TRAINING, seen=lambda *done: seen.append(done))
    predictor = load(labelled_run / "bundle", device="cpu")
    samples = open_source(looked.data, near_duplicates_together=False).splits["train"]
    assert {one.key for one in looked.judged} == {s.key for s in samples if predictor.predict(s).chosen[0] != s.target}
    assert (looked.pictures, looked.learnt, seen[-1]) == ("pictures for training", True, (len(samples), len(samples)))
    key = looked.judged[0].key
    said = looked.labels.names[looked.judged[0].prediction.chosen[0]]
    relabel(looked, key, [said])
    learnt = {s.key: s.target for s in open_source(looked.data, near_duplicates_together=False).splits["train"]}
    assert looked.labels.names[learnt[key]] == said
    page = render("examined", looked=looked, name="colours", counted_measures=())
    assert "learnt these pictures by heart" in page
    other = examined(workshop, str(labelled_run))
    assert (other.pictures, other.learnt) == ("pictures for validation", False)
    assert key not in {one.key for one in other.judged}


def test_mistakes__those_with_doubted_labels_come_first(looked):
    marks = [one.doubted for one in looked.mistakes(doubted_first=True)]
    assert marks == sorted(marks, reverse=True)
    assert {one.key for one in looked.mistakes(doubted_first=True) if one.doubted} == set(looked.doubts)


def test_mistakes__of_masks_those_of_which_most_is_doubted_come_first(workshop, masked_run):
    looked = examined(workshop, str(masked_run), TRAINING)
    listed = looked.mistakes(doubted_first=True)
    assert [looked.doubts.get(one.key, 0) for one in listed] == sorted(
        (looked.doubts.get(one.key, 0) for one in listed), reverse=True
    )
    assert {one.key for one in listed} == {one.key for one in looked.judged}
    for one in listed:
        share = looked.doubts.get(one.key)
        assert one.doubted == (share is not None)
        assert (share is None) == ("likely wrong" not in one.text)
        assert share is None or f"(likely wrong: {percent(share)} of the mask)" in one.text
    page = render("examined", looked=looked, name="places", counted_measures=())
    assert "only few wrong labels show here" in page


def test_drawn_mistake__says_what_the_data_say(looked):
    judged = looked.judged[0]
    shown = drawn_mistake(looked, judged.key)
    assert [label.name for label in shown.meant] == meant(judged, looked.labels) == [judged.key.split("/")[0]]
    with pytest.raises(DataError, match="not among the mistakes"):
        drawn_mistake(looked, "nothing.png")


def test_relabel__is_read_by_whoever_opens_the_data(looked, workshop, labelled_run, tmp_path):
    judged = looked.judged[0]
    said = looked.labels.names[judged.prediction.chosen[0]]
    assert looked.corrected_labels(judged.key) is None
    assert relabel(looked, judged.key, [said]) == tmp_path / "colours.corrections/corrections.jsonl"
    assert looked.labels.names[opened(looked.data)[judged.key].target] == said
    assert looked.corrected_labels(judged.key) == [said]
    listed = {one.key: one.text for one in looked.mistakes(doubted_first=False)}
    assert f"labelled {judged.key.split('/')[0]}" in listed[judged.key]
    assert listed[judged.key].endswith(f" – corrected to {said}")
    again = examined(workshop, str(labelled_run), again=True)
    assert judged.key not in {one.key for one in again.judged}
    with pytest.raises(InputError, match="Choose the label"):
        relabel(looked, judged.key, [])


def shown(looked, key):
    masked = looked.subject.task.name == "segmentation"
    page = render("mistake", one=drawn_mistake(looked, key), masked=masked, since=since(looked, key))
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_since__says_the_label_of_before_and_the_one_of_now(looked, workshop, labelled_run):
    judged = looked.judged[0]
    was, said = judged.key.split("/")[0], looked.labels.names[judged.prediction.chosen[0]]
    assert since(looked, judged.key) is None
    assert f"the data say {was}" in shown(looked, judged.key)
    other = next(name for name in looked.labels.names if name not in (was, said))
    relabel(looked, judged.key, [other])
    found = since(looked, judged.key)
    assert [[label.name for label in labels] for labels in (found.said, found.was, found.now)] == [
        [said],
        [was],
        [other],
    ]
    told = shown(looked, judged.key)
    assert "the data say" not in told
    assert (
        told.index(f"the model says {said}") < told.index(f"the data said {was}") < told.index(f"corrected to {other}")
    )
    again = examined(workshop, str(labelled_run), again=True)  # which knows of it
    assert since(again, judged.key) is None
    assert f"the data say {other}" in shown(again, judged.key)
    [text] = [one.text for one in again.mistakes(doubted_first=False) if one.key == judged.key]
    assert f"labelled {other}" in text
    assert text.endswith(" – corrected")


def test_since__the_numbers_of_a_corrected_mask_are_those_of_now_and_the_one_of_before_is_called_so(
    looked_at_masks, workshop, masked_run
):
    looked = looked_at_masks
    judged = looked.judged[0]
    before = mean_iou(judged.prediction.mask, true_mask(looked, judged.key))
    assert 1 - judged.wrongness == pytest.approx(before)
    assert "now" not in shown(looked, judged.key)
    replace_class(looked, judged.key, "rest", "red")
    mask = true_mask(looked, judged.key)
    now = mean_iou(judged.prediction.mask, mask)
    drawn = drawn_mistake(looked, judged.key)
    assert drawn.iou == pytest.approx(now)
    assert {shade.name: shade.meant for shade in drawn.shades}["red"] == pytest.approx(
        float((mask == 1).float().mean())
    )
    told = shown(looked, judged.key)
    assert f"mean IoU now {percent(now)} (was {percent(before)} with the mask of before)" in told
    assert "truth, as corrected" in told
    listed = {one.key: one.text for one in looked.mistakes(doubted_first=False)}
    assert listed[judged.key].startswith(f"{judged.key}: mean IoU was {1 - judged.wrongness:.2f}")
    assert listed[judged.key].endswith(" – corrected")
    again = examined(workshop, str(masked_run), again=True)
    assert since(again, judged.key) is None
    replace_class(looked, judged.key, "red", NOWHERE)  # into the same file
    assert since(again, judged.key) is not None


def mean_iou(said, meant):
    """Over the classes that are in either, where the truth counts."""
    said, meant = (mask[meant != 255].long() for mask in (said, meant))
    classes = set(said.tolist()) | set(meant.tolist())
    return sum(float(((said == i) & (meant == i)).sum() / ((said == i) | (meant == i)).sum()) for i in classes) / len(
        classes
    )


def test_repaint__changes_what_was_painted_and_nothing_else(looked_at_masks):
    looked = looked_at_masks
    key = looked.judged[0].key
    expected = true_mask(looked, key).clone()
    layer = torch.zeros(80, 80, 4, dtype=torch.uint8)  # twice the mask's size
    colours = dict(brush_colours(looked.labels))
    layer[:20, :, :3], layer[:20, :, 3] = torch.tensor(colours["red"], dtype=torch.uint8), 255
    layer[60:, :, :3], layer[60:, :, 3] = torch.tensor(colours[NOWHERE], dtype=torch.uint8), 255
    layer[40:50, :, 3] = 20  # hardly there
    repaint(looked, key, {"layers": [layer.numpy()]})
    expected[:10], expected[30:] = looked.labels.index("red"), 255
    assert torch.equal(opened(looked.data)[key].mask(), expected)


def test_replace_class__is_the_way_without_a_mouse(looked_at_masks):
    looked = looked_at_masks
    key = looked.judged[0].key
    before = true_mask(looked, key).clone()
    replace_class(looked, key, "rest", NOWHERE)
    assert torch.equal(opened(looked.data)[key].mask(), torch.where(before == 0, 255, before))
    with pytest.raises(InputError, match="two different"):
        replace_class(looked, key, "red", "red")
    for old, new in ((None, "red"), ("red", None), ("", "red")):
        with pytest.raises(InputError, match="Choose both classes"):
            replace_class(looked, key, old, new)


def test_replace_class__goes_on_from_what_was_corrected_before(looked_at_masks):
    looked = looked_at_masks
    key = looked.judged[0].key
    before = true_mask(looked, key).clone()
    truth = drawn_mistake(looked, key).truth.address
    replace_class(looked, key, "rest", NOWHERE)
    replace_class(looked, key, "green" if bool((before == 2).any()) else "red", "rest")
    expected = torch.where(before == 0, 255, torch.zeros_like(before))
    assert torch.equal(true_mask(looked, key), expected)
    assert torch.equal(opened(looked.data)[key].mask(), expected)
    assert drawn_mistake(looked, key).truth.address != truth


@pytest.mark.parametrize("nothing", [None, {"layers": []}, {"layers": [torch.zeros(4, 4, 4).byte().numpy()]}])
def test_repaint__says_that_nothing_was_painted(looked_at_masks, nothing):
    with pytest.raises(InputError, match="Nothing was painted"):
        repaint(looked_at_masks, looked_at_masks.judged[0].key, nothing)


def test_drawn_mistake__of_a_mask_has_truth_and_prediction(looked_at_masks):
    shown = drawn_mistake(looked_at_masks, looked_at_masks.judged[0].key)
    assert {shown.picture.width, shown.truth.width, shown.prediction.width} == {40}
    assert shown.truth.address != shown.picture.address


def test_strokes__are_the_class_whose_colour_is_nearest():
    labels = Labels(("a", "b"), ((0, 0, 0), (200, 0, 0)))
    layer = torch.zeros(2, 2, 4, dtype=torch.uint8)
    layer[0, 0] = torch.tensor([190, 5, 5, 255])
    layer[1, 1] = torch.tensor([255, 255, 255, 255])
    layer[0, 1] = torch.tensor([9, 9, 9, 200])
    assert strokes([layer.numpy()], labels, (2, 2)).tolist() == [[1, 0], [-1, 255]]


def test_strokes__of_many_classes_all_over_a_mask_take_little_memory():
    labels = Labels(tuple(f"class {i}" for i in range(150)))
    layer = torch.full((600, 600, 4), 255, dtype=torch.uint8)
    layer[..., :3] = torch.tensor(labels.palette()[70], dtype=torch.uint8)
    tracemalloc.start()
    try:
        over = strokes([layer.numpy()], labels, (600, 600))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bool((over == 70).all())
    assert most < 200e6  # a distance to each class's colour for each pixel would be six times that


@pytest.fixture
def run_from_elsewhere(tmp_path, pictures, vit, monkeypatch):
    """A run on `colours`, as it was typed in a folder in which nobody is any more."""
    shutil.copytree(pictures / "classes", tmp_path / "project/colours")
    monkeypatch.chdir(tmp_path / "project")
    made_run(Path("colours"), vit, tmp_path / "runs/colours")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs/colours"


def test_examined__finds_the_data_of_a_run_that_was_begun_in_another_folder(workshop, run_from_elsewhere, tmp_path):
    assert read_recipe(run_from_elsewhere / "recipe.yaml").data.path == "colours"
    looked = examined(workshop, str(run_from_elsewhere))
    assert looked.data == str(tmp_path / "project/colours")
    relabel(looked, looked.judged[0].key, ["green"])
    assert (tmp_path / "project/colours.corrections/corrections.jsonl").is_file()
    with gr.Blocks(analytics_enabled=False):
        tab = Mistakes(workshop)
    asked = []
    workshop.trainings.begin = lambda recipe, settings, name: asked.append(settings) or SimpleNamespace(name=name)
    assert "has begun" in tab._train_again(Showing(looked.of), None, None)
    assert asked[0]["data.path"] == str(tmp_path / "project/colours")


def test_examined__never_takes_a_path_that_a_run_has_used_for_a_name_on_the_hub(
    workshop, run_from_elsewhere, tmp_path, monkeypatch
):
    (tmp_path / "project").rename(tmp_path / "gone")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: pytest.fail("the Hub was asked"))
    with pytest.raises(DataError, match=r"no file or folder .*project/colours"):
        examined(workshop, str(run_from_elsewhere))
    with pytest.raises(DataError, match=r"no file or folder .*project/colours"):
        open_data(place_of("colours", workshop.runs))
