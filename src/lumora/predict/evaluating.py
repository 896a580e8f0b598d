"""Which samples a bundle is measured on, and whether their labels are the bundle's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumora.bundle import About
from lumora.data import Limits, open_source
from lumora.data.labels import listed
from lumora.data.sample import Sample, Source
from lumora.errors import DataError

_USUAL = ("test", "validation")
"""Splits that are measured if none is asked for: the first of these that there is, or the only one."""


def samples_to_measure(
    data: Source | Sequence[Sample] | str | Path, about: About, split: str | None, limits: Limits
) -> Sequence[Sample]:
    """The samples of a split, whose ids mean what they mean to the bundle."""
    if isinstance(data, str | Path):
        # Nothing is drawn: data without splits are measured whole.
        data = open_source(data, task=about.task, labels=about.labels, validation=0.0, limits=limits)
    if not isinstance(data, Source):
        if split is not None:
            raise DataError(f"These samples have no splits, so split={split!r} says nothing; leave it out.")
        return data
    _check(data, about)
    usual = next((name for name in (*_USUAL, *data.splits) if name in data.splits), "")
    if (split or usual) not in data.splits:
        raise DataError(f"There is no split {split!r}; there is {listed(data.splits)}.")
    return data.splits[split or usual]


def _check(source: Source, about: About) -> None:
    if source.task != about.task:
        raise DataError(f"The data are for {source.task} and the bundle for {about.task}; open them with task=….")
    if source.labels.names != about.labels.names:
        raise DataError(
            f"The data's labels are {listed(source.labels.names)}, the bundle's {listed(about.labels.names)}, and the "
            "numbers would be taken for one another. Open the data with the bundle's: open_source(…, "
            "labels=predictor.labels)."
        )
