"""Which samples a bundle is measured on, and that their labels mean what they mean to the bundle."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumora.bundle import About
from lumora.data import Limits
from lumora.data.label_files import LabelList, label_list
from lumora.data.labels import Labels, listed
from lumora.data.matching import open_for, renumbered
from lumora.data.sample import Sample, Source
from lumora.data.wishes import wishes_of
from lumora.errors import DataError
from lumora.paths import at_home

_USUAL = ("test", "validation")
"""Splits that are measured if none is asked for: the first of these that there is, or the only one."""
_OF_MASKS = ("ignore", "reduce_labels")
_OF_SPLITS = ("validation", "test", "seed", "near_duplicates_together")
_OF_PLACE = ("layout", "labels", "columns", "subset", "max_pixels")
_WHERE = "the bundle's labels"


@dataclass(frozen=True)
class Reading:
    """How data are read where they do not say it themselves; the words are those of `open_source`.

    What is None is read as in the bundle's training: what masks mean; of the same data, everything.
    """

    layout: str | None = None
    labels: Labels | Sequence[str] | Mapping[Any, Any] | str | Path | None = None
    """What the data's classes are called; never the bundle's own for others."""
    ignore: int | Sequence[int] | None = None
    reduce_labels: bool | None = None
    columns: Mapping[str, str | Sequence[str]] | None = None
    subset: str | None = None
    limits: Limits | None = None
    leave_out_unknown: bool = False
    """Measure without classes that the bundle does not know, instead of refusing such data."""


@dataclass(frozen=True)
class ToMeasure:
    """What a bundle is measured on."""

    samples: Sequence[Sample]
    split: str | None
    """None for all of them."""
    notes: tuple[str, ...] = ()


def to_measure(
    data: Source | Sequence[Sample] | str | Path, about: About, split: str | None = None, reading: Reading | None = None
) -> ToMeasure:
    """The samples to measure a bundle on, with the numbers that their classes have in it.

    Of several splits the test is taken, or else the validation, if none is asked for. Data without splits are measured
    whole; but of those that the bundle was trained on, and wherever a split is asked for, splits are drawn as in the
    training.
    """
    reading = reading or Reading()
    if isinstance(data, str | Path):
        source, whole = _opened(data, about, split, reading)
    elif isinstance(data, Source):
        source, whole = data, False
    elif split is not None:
        raise DataError(f"These samples have no splits, so split={split!r} says nothing; leave it out.")
    else:
        return ToMeasure(data, None)
    if source.task != about.task:
        raise DataError(f"The data are for {source.task} and the bundle for {about.task}; open them with task=….")
    usual = next((name for name in (*_USUAL, *source.splits) if name in source.splits), "")
    if (name := split or usual) not in source.splits:
        raise DataError(f"There is no split {name!r}; there is {listed(source.splits)}.")
    samples, notes = renumbered(source.splits[name], source.labels, about.labels, leave_out=reading.leave_out_unknown)
    return ToMeasure(samples, None if whole else name, (*source.notes, *notes))


def _opened(data: str | Path, about: About, split: str | None, reading: Reading) -> tuple[Source, bool]:
    """The data at a place, and whether all of them are to be measured because they are not divided."""
    trained: Mapping[str, Any] = _section(about.recipe.get("data"))
    same = _is_same_place(data, trained.get("path"))
    as_then = [*_OF_MASKS, *(_OF_PLACE if same else ()), *(_OF_SPLITS if same or split is not None else ())]
    values: dict[str, Any] = {"validation": 0.0, "test": 0.0}
    values |= {name: value for name in as_then if (value := trained.get(name)) is not None}
    if isinstance(most := values.pop("max_pixels", None), int):
        values["limits"] = Limits(most)
    values |= {name: value for name, value in _said(reading).items() if value is not None}
    source, divided = open_for(_known_labels(about, trained), data, wishes_of(task=about.task, **values))
    return source, not (divided or values["validation"] or values["test"])


def _known_labels(about: About, trained: Mapping[str, Any]) -> LabelList:
    """The bundle's labels, with the numbers in masks that the training was told, if it was."""
    said = trained.get("labels")
    if isinstance(said, Mapping | list):
        with contextlib.suppress(DataError):
            told = label_list(said)
            if told.labels.names == about.labels.names:
                return LabelList(about.labels, told.values, _WHERE)
    return LabelList(about.labels, where=_WHERE)


def _said(reading: Reading) -> dict[str, Any]:
    values = {field.name: getattr(reading, field.name) for field in dataclasses.fields(reading)}
    del values["leave_out_unknown"]
    return values


def _section(value: Any) -> Mapping[str, Any]:
    """A part of a recipe, which anybody may have written."""
    return value if isinstance(value, Mapping) else {}


def _is_same_place(data: str | Path, trained: Any) -> bool:
    if not isinstance(trained, str):
        return False
    one, other = at_home(data), at_home(trained)
    return one.resolve() == other.resolve() if one.exists() else str(data) == trained
