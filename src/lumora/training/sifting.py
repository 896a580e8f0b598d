"""Leaving out what cannot be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from lumora.data import Sample, Source
from lumora.data.labels import listed
from lumora.errors import DataError
from lumora.training.processes import Alone, Processes


def without_unreadable(source: Source, told: Callable[[str], None], processes: Processes | None = None) -> Source:
    """The same data without samples whose picture or mask cannot be read; says which. Reads and decodes everything.

    Several processes share the work and come to the same.
    """
    splits = {split: _readable(samples, split, told, processes or Alone()) for split, samples in source.splits.items()}
    return dataclasses.replace(source, splits=splits)


def _readable(samples: Sequence[Sample], split: str, told: Callable[[str], None], processes: Processes) -> list[Sample]:
    bad = torch.zeros(len(samples), dtype=torch.int64)
    for i in range(processes.rank, len(samples), processes.world):
        bad[i] = not _can_be_read(samples[i])
    processes.add([bad])
    left_out = [samples[i].key for i in bad.nonzero()[:, 0].tolist()]
    if left_out:
        told(f"Left out of {split}, because they cannot be read: {listed(left_out)}. `lumora doctor` says why.")
    return [samples[i] for i in (bad == 0).nonzero()[:, 0].tolist()]


def _can_be_read(sample: Sample) -> bool:
    try:
        sample.picture()
        sample.mask()
    except DataError:
        return False
    return True
