"""A plan: what a training would do on this machine, found out without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumora.data import Source
from lumora.errors import DataError, TrainingError
from lumora.models import Base, names
from lumora.models.libraries import weights_are_here
from lumora.training.choosing import Chosen, explained
from lumora.training.facts import Facts
from lumora.training.first_look import look_at
from lumora.training.planning import forecast
from lumora.training.planning.changes import Changes, changes, structure
from lumora.training.planning.disk import Disk, disk, kept_pictures
from lumora.training.planning.forecast import Course, Memory, Time
from lumora.training.planning.probe import probe as measured
from lumora.training.planning.probed import Probed
from lumora.training.planning.shortages import shortages
from lumora.training.recipe import Recipe, parse_asked, plain, read_recipe
from lumora.training.running import device_here
from lumora.training.setup import source_for
from lumora.training.sifting import without_unreadable
from lumora.training.surveying import chosen_for


@dataclass(frozen=True)
class DataFound:
    """Data as they were found."""

    path: str | None
    task: str
    layout: str
    labels: tuple[str, ...]
    splits: Mapping[str, int]
    """Pictures in each."""
    picture_size: tuple[int, int]
    """Height and width of a typical one."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BaseFound:
    """The base as far as it is known without being loaded."""

    name: str
    parameters: int
    licence: str | None
    source: str | None
    here: bool
    """Whether its weights are on this machine."""
    fingerprint: str | None
    """Of its weights; None where nothing was probed."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a training would do, cost and change."""

    data: DataFound
    base: BaseFound
    changes: Changes
    course: Course
    disk: Disk
    memory: Memory | None
    """None where nothing was probed, or the system does not tell."""
    time: Time | None
    """None where nothing was probed."""
    chosen: Chosen
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What there is too little of, and what to change."""
    failed: str | None = None
    """Why a few steps could not be done; the training could not be done either."""

    @property
    def recipe(self) -> Recipe:
        """Every choice; a training by it is the one that was planned."""
        return self.chosen.recipe

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        names = ("data", "base", "changes", "course", "disk")
        parts = {name: dataclasses.asdict(getattr(self, name)) for name in names}
        parts["changes"]["percent"] = self.changes.percent
        parts["course"]["steps"] = self.course.steps
        rows = explained(self.chosen)
        return {
            **parts,
            "memory": None if self.memory is None else {**dataclasses.asdict(self.memory), "whole": self.memory.whole},
            "time": None if self.time is None else dataclasses.asdict(self.time),
            "recipe": plain(self.recipe),
            "choices": {key: {"how": how, "why": why} for key, _, how, why in rows},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "failed": self.failed,
        }


def plan(
    data: Any = None,
    base: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    recipe: Recipe | str | Path | None = None,
    probe: bool = True,
) -> Plan:
    """Say what a training would do. Nothing is trained and no run's folder is made.

    Costs, with `probe`, a process that takes a few steps of the training: what it takes to load the base, and then
    half a minute at most, or two steps. Without, a second or two: time and memory are not known then.

    Args:
        data: as `finetune` takes them; of a dataset at hand in Python, time and memory are not measured.
        base: the name of the model to adapt; the embedded one if not said.
        settings: keys of a recipe, such as `{"lora.r": 8, "train.epochs": 5}`.
        recipe: what else is asked for, or its file; the others win.
        probe: whether to measure time and memory.
    """
    named = isinstance(data, str | Path)
    given = {} if base is None else {"base.name": base}
    given |= {"data.path": data} if named else {}
    before = read_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    asked = parse_asked({**given, **(settings or {})}, onto=before)
    source = data if isinstance(data, Source) else source_for(asked.data, data)
    notes: list[str] = []
    if probe and asked.data.skip_bad:
        source = without_unreadable(source, notes.append)
    chosen, facts = chosen_for(asked, source, device_here())
    at_hand = data is not None and not named
    return _planned(chosen, source, facts, notes, probing=probe, at_hand=at_hand)


def _planned(chosen: Chosen, source: Source, facts: Facts, notes: list[str], *, probing: bool, at_hand: bool) -> Plan:
    recipe = chosen.recipe
    base = structure(recipe, source)
    changed = changes(base, recipe)
    probed, failed = _probed(recipe, source, at_hand, notes) if probing else (None, None)
    here = base.library == "python" or weights_are_here(names.parse(base.name))
    room = disk(recipe, facts, changed, here)
    course = forecast.course(recipe, facts.pictures_train, facts.pictures_validation)
    in_memory = kept_pictures(recipe, facts) if recipe.run.cache_on == "ram" else 0
    memory = None if probed is None else forecast.memory(probed, in_memory)
    if probed is not None:
        notes += probed.notes
        notes += [] if memory is not None else ["This system does not tell how much memory a process held."]
    return Plan(
        data=_data(recipe, source, facts),
        base=_base(base, facts, here, probed),
        changes=changed,
        course=course,
        disk=room,
        memory=memory,
        time=None if probed is None else forecast.time(probed, course, recipe),
        chosen=chosen,
        notes=tuple(notes),
        warnings=tuple(shortages(recipe, facts.machine, room, memory)),
        failed=failed,
    )


def _probed(recipe: Recipe, source: Source, at_hand: bool, notes: list[str]) -> tuple[Probed | None, str | None]:
    """What was measured, or why nothing could be; the data are looked at before, as a training does."""
    try:
        notes += look_at(source, skip_bad=bool(recipe.data.skip_bad))
        if not at_hand:
            return measured(recipe), None
    except (DataError, TrainingError) as error:
        return None, str(error)
    notes.append("Time and memory were not measured: another process cannot open data that are at hand in Python.")
    return None, None


def _data(recipe: Recipe, source: Source, facts: Facts) -> DataFound:
    return DataFound(
        path=recipe.data.path,
        task=source.task,
        layout=source.layout,
        labels=source.labels.names,
        splits={split: len(samples) for split, samples in source.splits.items()},
        picture_size=facts.picture_size,
        notes=tuple(source.notes),
    )


def _base(base: Base, facts: Facts, here: bool, probed: Probed | None) -> BaseFound:
    return BaseFound(
        name=base.name,
        parameters=facts.base.parameters,
        licence=base.licence,
        source=base.source,
        here=here,
        fingerprint=None if probed is None else probed.fingerprint,
        notes=base.notes,
    )
