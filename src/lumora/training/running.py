"""A whole training, from data and wishes to a verified bundle in a run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lumora.bundle import written_and_verified
from lumora.data import Source
from lumora.tasks.metrics.base import Scores
from lumora.tasks.selftest import self_test
from lumora.training.checkpoints import Checkpoint
from lumora.training.choosing import Chosen, resolve
from lumora.training.evaluating import evaluate
from lumora.training.events import Audience, EpochDone, Listener
from lumora.training.folder import RunFolder
from lumora.training.head_first import train_head_first
from lumora.training.live import LiveSamples
from lumora.training.loop import Ending, Loop, Saved
from lumora.training.recipe import Recipe, asked_of, parse_asked, read_recipe, write_recipe
from lumora.training.rules.model import EMBEDDED
from lumora.training.setup import Prepared, prepare, source_for
from lumora.training.sifting import without_unreadable
from lumora.training.stopping import StopRequest, heeding_signals
from lumora.training.surveying import survey
from lumora.training.tracking import Tracking
from lumora.training.trained import changing_tensors, put

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
    notes: tuple[str, ...] = ()
    """What was told on the way."""
    signal: int | None = None
    """The signal that asked it to stop, if one did."""

    @property
    def bundle(self) -> Path | None:
        """The folder of the finished, verified bundle; None where the training was asked to stop before."""
        return None if self.ending is Ending.ASKED else self.folder / "bundle"


def finetune(
    data: Any,
    base: str = EMBEDDED,
    *,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Adapt a pretrained model to pictures; return where its bundle lies and how good it is.

    Args:
        data: a folder, a table, a dataset at hand, the name of one on the Hub, or a `Source`.
        base: the name of the model to adapt.
        out: the folder of the run; chosen from the data's name if not given.
        settings: keys of a recipe, such as `{"lora.r": 8, "train.epochs": 5}`.
        recipe: what else is asked for; `settings` win.
        listeners: hear how it goes.
    """
    named = isinstance(data, str | Path)
    given = {"base.name": base, **(settings or {})}
    given |= {"data.path": str(data)} if named else {}
    given |= {"run.out": str(out)} if out is not None else {}
    asked = parse_asked(given, onto=recipe)
    source = data if isinstance(data, Source) else source_for(asked.data, data)
    chosen = choose(asked, source)
    assert chosen.recipe.run.out is not None
    with RunFolder.create(chosen.recipe.run.out) as folder:
        write_recipe(chosen.recipe, folder.recipe)
        return _run(folder, chosen.recipe, source, listeners)


def resume(run: str | Path, data: Any = None, *, listeners: Sequence[Listener] = ()) -> Run:
    """Go on with a run that was interrupted, from its last checkpoint; the result is that of an uninterrupted one.

    `data` must be given again where they were at hand in Python.
    """
    with RunFolder.open(run) as folder:
        recipe = read_recipe(folder.recipe)
        source = data if isinstance(data, Source) else source_for(recipe.data, data)
        return _run(folder, recipe, source, listeners)


def choose(asked: Recipe, source: Source) -> Chosen:
    """Fill the gaps of a recipe for these data, this base and this machine."""
    return resolve(asked, survey(source, asked.base, asked.base.name or EMBEDDED, device_here()))


def device_here() -> torch.device:
    """Where a training computes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _run(folder: RunFolder, recipe: Recipe, source: Source, listeners: Sequence[Listener]) -> Run:
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    written, stop = _Written(folder), StopRequest()
    if recipe.data.skip_bad:
        source = without_unreadable(source, Audience([*listeners, written]).told)
    prepared = prepare(recipe, source, device_here())
    samples = LiveSamples(prepared, folder.path / "samples", recipe.run.live_samples or 0)
    tracking = Tracking(recipe.run.track or (), folder.path, asked_of(recipe))
    listener = Audience([*listeners, written, samples, tracking])
    _prove_evaluation(prepared)
    loop = Loop(prepared.work, prepared.course, _saver(folder), listener, stop)
    if (found := folder.resume()) is not None:
        for note in found.notes:
            listener.told(note)
        loop.load(found.checkpoint.tensors, found.checkpoint.state)
    else:
        train_head_first(prepared, listener.told)
    with heeding_signals(stop):
        ending = loop.run()
    tracking.close()
    if ending is Ending.ASKED:
        scores = Scores({})
    else:
        put(changing_tensors(prepared.model), loop.best)
        scores = _scores(prepared)
        written_and_verified(folder.bundle, prepared.model, prepared.about(scores))
    progress = loop.progress
    return Run(folder.path, ending, progress.epoch, progress.best_epoch, scores, tuple(written.notes), stop.signal)


def _saver(folder: RunFolder) -> Any:
    def save(saved: Saved) -> None:
        tensors, values = saved
        folder.save_checkpoint(Checkpoint(tensors, values), values["progress"]["step"])

    return save


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


def _scores(prepared: Prepared) -> Scores:
    work = prepared.work
    if work.validation is None:
        return Scores({})
    work.validation.set_epoch(0)
    return evaluate(work.model, work.task, work.validation, precision=work.stepper.in_precision).scores()


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
        with self._folder.log.open("a", encoding="utf-8") as log:
            log.write(text + "\n")
