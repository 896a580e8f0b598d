"""What a report is about: a run that is finished, with its model, its data and how its choices were made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lumora.bundle import About, Loaded, load, read_about
from lumora.data import Loader, Pictures, Source
from lumora.data.labels import listed
from lumora.errors import DataError
from lumora.tasks import TASKS, MultiLabel, Task
from lumora.tasks.evaluating import usual_batch_size
from lumora.tasks.views import evaluation_view
from lumora.training.folder import RunFolder
from lumora.training.recipe import Recipe, read_recipe
from lumora.training.setup import Prepared, source_for
from lumora.training.sifting import without_unreadable
from lumora.training.whereabouts import place_of_data


@dataclass(frozen=True)
class Subject:
    """A finished run and all that its report looks at."""

    folder: RunFolder
    recipe: Recipe
    source: Source
    about: About
    model: nn.Module
    task: Task[Any]
    validation: Loader | None
    """All pictures for validation, or of another split that was asked for, in their order."""
    parameters: int
    """Of the whole model."""
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext


def of_prepared(folder: RunFolder, prepared: Prepared) -> Subject:
    """The run of a training that has just ended, with the model as its bundle has it."""
    work, recipe = prepared.work, read_recipe(folder.recipe)
    validation = None
    if work.validation is not None:
        part = work.validation.pictures  # what this one of several processes has looked at
        samples = prepared.source.splits["validation"]
        pictures = Pictures(samples, part.transform, part.seed, part.cache, classes=part.classes)
        validation = _loader(pictures, recipe, work.task, work.stepper.device)
    about, precision = read_about(folder.bundle), work.stepper.in_precision
    model, size = prepared.model, _size(prepared.model)
    return Subject(folder, recipe, prepared.source, about, model, work.task, validation, size, precision)


def of_folder(
    folder: RunFolder, data: Any = None, base: str | nn.Module | None = None, *, split: str = "validation"
) -> Subject:
    """The run in a folder; its bundle is loaded and its data are opened again, to look at one split of them."""
    recipe = read_recipe(folder.recipe)
    where = place_of_data(folder.path, recipe.data.path) if data is None else data
    source = where if isinstance(where, Source) else source_for(recipe.data, where)
    if recipe.data.skip_bad:
        source = without_unreadable(source, lambda note: None)  # the log has the note already
    if source.labels.names != (labels := read_about(folder.bundle).labels).names:
        raise DataError(
            f"The data's labels are {listed(source.labels.names)}, those of the run {listed(labels.names)}. Were the "
            "data changed since?"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return of_bundle(folder, recipe, source, load(folder.bundle, base=base, device=device), device, split=split)


def of_bundle(
    folder: RunFolder,
    recipe: Recipe,
    source: Source,
    loaded: Loaded,
    device: torch.device,
    *,
    split: str = "validation",
) -> Subject:
    """The run whose bundle is loaded on a device and whose data are open, to look at one split of them."""
    about = loaded.about
    task = TASKS[about.task](about.labels)
    if isinstance(task, MultiLabel) and about.threshold is not None:
        task = MultiLabel(about.labels, about.threshold)
    samples, validation = source.splits.get(split, ()), None
    if len(samples):
        pictures = Pictures(samples, evaluation_view(about.at_size), classes=len(about.labels))
        validation = _loader(pictures, recipe, task, device)
    return Subject(folder, recipe, source, about, loaded.model, task, validation, _size(loaded.model))


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _loader(pictures: Pictures, recipe: Recipe, task: Task[Any], device: torch.device) -> Loader:
    return Loader(pictures, usual_batch_size(task.name), shuffle=False, workers=recipe.run.workers or 0, device=device)
