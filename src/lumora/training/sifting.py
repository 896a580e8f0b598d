"""Leaving out what cannot be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from lumora.data import Sample, Source
from lumora.data.labels import listed
from lumora.errors import DataError


def without_unreadable(source: Source, told: Callable[[str], None]) -> Source:
    """The same data without samples whose picture or mask cannot be read; says which. Reads and decodes everything."""
    splits = {split: _readable(samples, split, told) for split, samples in source.splits.items()}
    return dataclasses.replace(source, splits=splits)


def _readable(samples: Sequence[Sample], split: str, told: Callable[[str], None]) -> list[Sample]:
    good: list[Sample] = []
    bad: list[str] = []
    for sample in samples:
        try:
            sample.picture()
            sample.mask()
        except DataError:
            bad.append(sample.key)
        else:
            good.append(sample)
    if bad:
        told(f"Left out of {split}, because they cannot be read: {listed(bad)}. `lumora doctor` says why.")
    return good
