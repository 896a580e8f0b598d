"""Reports of real trainings, and those that cannot be written."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch
from tests.training.report.making import SEES_AS_IT_IS, TellsColours, made_run, source
from tests.training.small import NAMES

from lumora.data import Labels, Loader, Pictures
from lumora.errors import DataError, RecipeError, RunError
from lumora.tasks import TASKS
from lumora.tasks.views import evaluation_view
from lumora.training import write_report
from lumora.training.recipe import parse_asked, write_recipe
from lumora.training.report import report_on
from lumora.training.report.examining import examine
from lumora.training.stopping import StopRequest


def test_report_on__tells_what_keeps_it_from_being_written(tmp_path):
    data = source("classification", NAMES)
    folder, _ = made_run(tmp_path / "run", data)
    told = []
    report_on(folder, None, told.append, StopRequest())  # nothing that could be reported on
    [text] = told
    assert text.startswith(f"The report {folder.report} was not written: ")
    assert "The bundle is saved all the same" in text
    assert not folder.report.exists()


def test_write_report__says_what_is_missing(tmp_path):
    data = source("classification", NAMES)
    folder, base = made_run(tmp_path / "run", data)
    with pytest.raises(RecipeError, match="This recipe names no data"):
        write_report(folder.path, base=base)
    other = dataclasses.replace(data, labels=Labels(("red", "green", "brown")))
    with pytest.raises(DataError, match="data's labels are 'red', 'green', 'brown', those of the run 'red',"):
        write_report(folder.path, other, base)
    folder.bundle.rename(folder.path / "elsewhere")
    with pytest.raises(RunError, match="has no bundle yet"):
        write_report(folder.path, data, base)
    with pytest.raises(RunError, match="is no folder"):
        write_report(tmp_path / "nowhere")


def test_write_report__replaces_an_old_one_and_needs_no_origins(tmp_path):
    data = source("classification", NAMES)
    folder, base = made_run(tmp_path / "run", data)
    folder.report.write_text("old")
    folder.origins.unlink()
    folder.log.unlink()
    text = write_report(folder.path, data, base).read_text(encoding="utf-8")
    assert "train.epochs" in text
    assert "asked for</td>" not in text


def test_write_report__of_files_whose_names_are_no_text(tmp_path):
    data = source("classification", NAMES, off=0.6)
    data.splits["validation"][:] = [Misnamed(sample) for sample in data.splits["validation"]]
    folder, base = made_run(tmp_path / "run", data)
    text = write_report(folder.path, data, base).read_text(encoding="utf-8")
    assert 'dir="auto">caf?-' in text


class Misnamed:
    """A sample whose file has a name that is no UTF-8, as Python reads such."""

    def __init__(self, sample):
        self.sample, self.target, self.picture, self.mask = sample, sample.target, sample.picture, sample.mask
        self.path, self.key = None, f"caf\udce9-{sample.number}.png"


def test_write_report__leads_with_the_score_that_decided(tmp_path):
    data = source("classification", NAMES)
    folder, base = made_run(tmp_path / "run", data)
    write_recipe(parse_asked({"train.best_by": "macro_f1"}), folder.recipe)
    text = write_report(folder.path, data, base).read_text(encoding="utf-8")
    assert "Macro F1 on 40 pictures for validation" in text


@pytest.mark.parametrize("kind", ["classification", "multilabel", "segmentation"])
def test_examine__keeps_no_more_of_more_pictures(kind):
    names = ("sky", "sea", "sand", "ship")

    def kept(pictures):
        data = source(kind, names, validation=pictures, off=0.6)
        model, task = TellsColours(len(names), kind == "segmentation"), TASKS[kind](data.labels)
        view = evaluation_view(SEES_AS_IT_IS)
        loader = Loader(Pictures(data.splits["validation"], view, classes=len(names)), 4, shuffle=False)
        found = examine(model, task, loader)
        gc.collect()
        judged = [*found.worst, *found.shown]
        tensors = [t for one in judged for t in (one.target, *vars(one.prediction).values()) if torch.is_tensor(t)]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return found.pictures, len(judged), sum(storages.values())

    few, many = kept(60), kept(240)
    assert (few[0], many[0]) == (60, 240)
    assert few[1:] == many[1:]
