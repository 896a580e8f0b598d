"""A whole training, from data and wishes to a verified bundle in a run's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lumora.data import Source
from lumora.lora.status import count_parameters
from lumora.models import Preprocessing
from lumora.tasks.metrics.base import Scores
from lumora.tasks.selftest import self_test
from lumora.training.agreeing import (
    begin_alike,
    check_same_pictures,
    ended_by_signals_to_any,
    kept_by_first,
    newest_checkpoint,
    same_choice,
    same_recipe,
)
from lumora.training.checkpoints import Checkpoint
from lumora.training.choosing import Chosen
from lumora.training.events import Audience, Begun, EpochDone, Listener, Opened
from lumora.training.finishing import finish
from lumora.training.first_look import look_at
from lumora.training.folder import RunFolder, free_place
from lumora.training.head_first import train_head_first
from lumora.training.live import LiveSamples
from lumora.training.liveness import prove_adapters
from lumora.training.loop import Ending, Loop, Saved
from lumora.training.origins import read_origins, write_origins
from lumora.training.processes import Processes
from lumora.training.progress_file import ProgressFile
from lumora.training.ready import Ready, check_given, check_identity, identity, name_of, ready
from lumora.training.recipe import Recipe, asked_of, parse_asked, read_recipe, write_recipe
from lumora.training.setup import Prepared, prepare, source_for
from lumora.training.several import device_here, taking_part
from lumora.training.sifting import without_unreadable
from lumora.training.starting import start_from_bundle
from lumora.training.stopping import AskedToStop, StopRequest, heeding_signals
from lumora.training.surveying import chosen_for
from lumora.training.tracking import Tracking, refuse_missing
from lumora.training.whereabouts import note_place, place_of_data

_TESTED_ON = 2


@dataclass(frozen=True)
class Run:
    """A training that has come to an end for now."""

    folder: Path
    ending: Ending
    epochs: int
    """Epochs that are done."""
    best_epoch: int
    scores: Scores
    """Of the bundle, on the pictures for validation; empty where there are none."""
    seconds: float
    """Spent on training and its evaluations, interruptions left out."""
    trained: int
    """Parameters that were trained."""
    parameters: int
    """Parameters of the whole model."""
    notes: tuple[str, ...] = ()
    """What was told on the way."""
    signal: int | None = None
    """The signal that asked it to stop, if one did."""

    @property
    def bundle(self) -> Path | None:
        """The folder of the finished, verified bundle; None where the training was asked to stop before."""
        return None if self.ending is Ending.ASKED else self.folder / "bundle"


def finetune(
    data: Any = None,
    base: str | nn.Module | None = None,
    *,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: Recipe | str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Adapt a pretrained model to pictures; return where its bundle lies and how good it is.

    Args:
        data: a folder, a table, a dataset at hand, the name of one on the Hub, or a `Source`; what the recipe says if
            not given.
        base: the name of the model to adapt, or a model of your own, of which a copy is adapted; what the recipe says
            if not given, and else the embedded one.
        out: the folder of the run; chosen from the data's name if not given.
        settings: keys of a recipe, such as `{"lora.r": 8, "train.epochs": 5}`.
        recipe: what else is asked for, or its file; `settings` win.
        preprocessing: what a model of your own wants done to pictures, where it does not say so itself.
        listeners: hear how it goes.
    """
    with taking_part() as processes:
        asked = _asked(data, base, out, settings, recipe)
        refuse_missing(asked.run.track or ())
        given = ready(base, preprocessing, asked.pictures.size)
        source = data if isinstance(data, Source) else source_for(asked.data, data)
        source, notes = _usable(processes, source, asked)
        chosen = same_choice(processes, lambda: choose(asked, source, given))
        with kept_by_first(processes, lambda: _created(chosen, asked)) as folder:
            return _run(processes, folder, chosen.recipe, source, listeners, given, notes)


def resume(
    run: str | Path,
    data: Any = None,
    *,
    base: nn.Module | None = None,
    preprocessing: Preprocessing | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Go on with a run that was interrupted, from its last checkpoint; the result is that of an uninterrupted one.

    What was at hand in Python must be given again: `data`, and a `base` with its `preprocessing`.
    """
    with taking_part() as processes, kept_by_first(processes, lambda: RunFolder.open(run)) as folder:
        recipe = same_recipe(processes, lambda: read_recipe(folder.recipe))
        refuse_missing(recipe.run.track or ())
        given = ready(base, preprocessing, recipe.pictures.size)
        check_given(recipe.base.name, given)
        where = place_of_data(folder.path, recipe.data.path) if data is None else data
        source = where if isinstance(where, Source) else source_for(recipe.data, where)
        if processes.is_first and isinstance(data, str | Path):
            note_place(folder.path, recipe.data.path, data)  # they have moved
        source, _ = _usable(processes, source, recipe)
        return _run(processes, folder, recipe, source, listeners, given)


def choose(asked: Recipe, source: Source, given: Ready | None = None) -> Chosen:
    """Fill the gaps of a recipe for these data, this base and this machine."""
    check_given(asked.base.name, given)
    return chosen_for(asked, source, device_here(), given)[0]


def _asked(
    data: Any,
    base: str | nn.Module | None,
    out: str | Path | None,
    settings: Mapping[str, Any] | None,
    recipe: Recipe | str | Path | None,
) -> Recipe:
    given = dict(settings or {})
    if base is not None:
        given.setdefault("base.name", name_of(base) if isinstance(base, nn.Module) else base)
    if data is not None:
        given["data.path"] = str(data) if isinstance(data, str | Path) else "auto"
    if out is not None:
        given["run.out"] = str(out)
    return parse_asked(given, onto=read_recipe(recipe) if isinstance(recipe, str | Path) else recipe)


def _created(chosen: Chosen, asked: Recipe) -> RunFolder:
    """The folder of a new run, with its recipe."""
    place = chosen.recipe.run.out
    assert place is not None
    folder = RunFolder.create(place if asked.run.out is not None else free_place(place))
    try:
        # The recipe says what is done, the folder where: rerun, it gets one of its own.
        write_recipe(parse_asked({"run.out": "auto"}, onto=chosen.recipe), folder.recipe)
        write_origins(chosen.origins, folder.origins)
        note_place(folder.path, chosen.recipe.data.path)
    except BaseException:
        folder.close()
        raise
    return folder


def _usable(processes: Processes, source: Source, asked: Recipe) -> tuple[Source, list[str]]:
    """The data as far as they can be learnt from, and what is to be told of them."""
    check_same_pictures(processes, source)
    notes = [source.corrected] if source.corrected else []
    skip_bad = bool(asked.data.skip_bad)
    if skip_bad:
        source = without_unreadable(source, notes.append, processes)
    return source, [*notes, *(processes.first(lambda: look_at(source, skip_bad=skip_bad)) or ())]


@dataclass(frozen=True)
class _Going:
    """A training that has everything it needs."""

    prepared: Prepared
    loop: Loop
    listener: Audience
    tracking: Tracking


def _run(
    processes: Processes,
    folder: RunFolder,
    recipe: Recipe,
    source: Source,
    listeners: Sequence[Listener],
    given: Ready | None = None,
    notes: Sequence[str] = (),
) -> Run:
    """Do what a recipe says in a folder, from the base to the report."""
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    written, progress, stop = _Written(folder), ProgressFile(folder.progress), StopRequest()
    hearing = [*listeners, written, progress] if processes.is_first else []
    Audience(hearing).opened(Opened(folder.path, recipe, read_origins(folder.origins), source))
    Audience(hearing).doing("loading the base")
    try:
        with ended_by_signals_to_any(processes, stop):
            prepared = prepare(recipe, source, device_here(), given, processes)
            going = _ready_to_go(prepared, folder, hearing, notes, stop, given)
    except AskedToStop:
        number = processes.highest(stop.signal or 0)
        return Run(folder.path, Ending.ASKED, 0, 0, Scores({}), 0.0, 0, 0, tuple(written.notes), number)
    try:
        with heeding_signals(stop):
            ending = going.loop.run()
    finally:
        going.tracking.close()
        if processes.is_first:
            progress.clear()
    module = None if given is None else given.module
    scores = finish(folder, prepared, going.loop.best, going.listener, stop, module)
    number = processes.highest(stop.signal or 0) or None
    return _ended(folder, going, Ending.ASKED if scores is None else ending, scores, written.notes, number)


def _ready_to_go(
    prepared: Prepared,
    folder: RunFolder,
    hearing: Sequence[Listener],
    notes: Sequence[str],
    stop: StopRequest,
    given: Ready | None,
) -> _Going:
    """Prove the evaluation, and bring the training to where it goes on; `hearing` is empty but in the first process."""
    recipe, processes = prepared.recipe, prepared.work.stepper.processes
    samples = LiveSamples(prepared, folder.path / "samples", recipe.run.live_samples or 0)
    tracked = (recipe.run.track or ()) if processes.is_first else ()
    tracking = Tracking(tracked, folder.path, asked_of(recipe), Audience(hearing).told)
    listener = Audience([*hearing, samples, tracking] if processes.is_first else [])
    for note in notes:
        listener.told(note)
    processes.first(lambda: _prove_evaluation(prepared))
    loop = Loop(prepared.work, prepared.course, _saver(folder, prepared), listener, stop)
    _begin(loop, prepared, folder, listener, given)
    listener.begun(_begun(loop, prepared, stop))
    return _Going(prepared, loop, listener, tracking)


def _ended(
    folder: RunFolder, going: _Going, ending: Ending, scores: Scores | None, notes: Sequence[str], number: int | None
) -> Run:
    """What a training came to."""
    progress = going.loop.progress
    sizes = [(p.numel(), p.requires_grad) for p in going.prepared.model.parameters()]
    return Run(
        folder.path,
        ending,
        progress.epoch,
        progress.best_epoch,
        Scores({}) if scores is None else scores,
        going.loop.seconds,
        sum(size for size, trains in sizes if trains),
        sum(size for size, _ in sizes),
        tuple(notes),
        number,
    )


def _begin(loop: Loop, prepared: Prepared, folder: RunFolder, listener: Listener, given: Ready | None = None) -> None:
    """Go to the last checkpoint; where there is none, prove that adapters learn, and train the head alone."""
    processes = prepared.work.stepper.processes
    found = newest_checkpoint(processes, folder)
    if found is None:
        processes.first(lambda: _begin_anew(prepared, listener, given))
        begin_alike(processes, prepared)
        return
    for note in found.notes:
        listener.told(note)
    check_identity(found.checkpoint.state.get("base"), prepared.base)
    loop.load(found.checkpoint.tensors, found.checkpoint.state)


def _begin_anew(prepared: Prepared, listener: Listener, given: Ready | None = None) -> None:
    prove_adapters(prepared, listener.told)
    start_from_bundle(prepared, given, listener.told)
    if prepared.recipe.train.head_first:
        listener.doing("training the head alone")
    train_head_first(prepared, listener.told)
    if prepared.work.average is not None:
        prepared.work.average.start_anew()


def _begun(loop: Loop, prepared: Prepared, stop: StopRequest) -> Begun:
    progress, course = loop.progress, prepared.course
    return Begun(
        *count_parameters(prepared.model),
        step=progress.step,
        steps=loop.steps,
        epoch=progress.epoch,
        epochs=course.epochs,
        best=progress.best,
        seconds=progress.seconds,
        max_seconds=course.max_seconds,
        stop=stop,
    )


def _saver(folder: RunFolder, prepared: Prepared) -> Any:
    def save(saved: Saved) -> None:
        tensors, values = saved
        values = {**values, "base": identity(prepared.base)}
        folder.save_checkpoint(Checkpoint(tensors, values), values["progress"]["step"])

    def leave_it(saved: Saved) -> None:
        """The first process saves what all have."""

    return save if prepared.work.stepper.processes.is_first else leave_it


def _prove_evaluation(prepared: Prepared) -> None:
    """Let a perfect and a constant predictor be measured; an error if their scores are not what they must be."""
    if prepared.work.validation is None:
        return
    batches: list[dict[str, Any]] = []
    for batch in prepared.work.validation:
        batches.append(batch)
        if len(batches) == _TESTED_ON:
            break
    prepared.work.validation.load_state_dict({"epoch": 0, "batches": 0})
    self_test(prepared.work.task, batches)


class _Written(Listener):
    """Puts what happens into the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.notes: list[str] = []

    def epoch_done(self, event: EpochDone) -> None:
        """A line of metrics."""
        self._folder.append_metrics({**event.row(), "per_class": event.scores.per_class})

    def told(self, text: str) -> None:
        """A line of the log."""
        self.notes.append(text)
        # On a full disk the log may lack a line; what matters there says so itself.
        with contextlib.suppress(OSError), self._folder.log.open("a", encoding="utf-8") as log:
            log.write(text + "\n")
