"""Examining data: every file is read once, then every check looks at what was learnt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lumora.data.doctor.checks import CHECKS
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.facts import Facts, look
from lumora.data.doctor.gathering import gather
from lumora.data.doctor.records import Record, Records
from lumora.data.doctor.report import SEVERITIES, Report
from lumora.data.duplicates import Fingerprints, fingerprints
from lumora.data.labels import IGNORE, Labels
from lumora.data.reading import Limits
from lumora.data.sample import Source, TaskName
from lumora.data.wishes import wishes_of

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Progress = Callable[[int, int], None]
"""Told how many of how many samples were read."""

_TOGETHER = 16
"""So many samples make one piece of work."""


def examine(
    data: Source | str | Path | Dataset | DatasetDict,
    *,
    task: TaskName | None = None,
    layout: str | None = None,
    labels: Labels | Sequence[str] | Mapping[Any, Any] | str | Path | None = None,
    ignore: int | Sequence[int] = IGNORE,
    reduce_labels: bool | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    subset: str | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Find what is wrong with data. Reads and decodes every file, none of them twice at a time; changes nothing.

    The arguments up to `limits` are those of `open_source`, for data that do not say everything themselves. What an
    opened source was told need not be said again; examining the path finds more, as it also sees what lies beside the
    samples.

    Args:
        data: a path, a dataset, a name on the Hub, or an opened source.
        task: see `open_source`.
        layout: see `open_source`.
        labels: see `open_source`.
        ignore: see `open_source`.
        reduce_labels: see `open_source`.
        columns: see `open_source`.
        subset: see `open_source`.
        limits: larger pictures are reported and not decoded.
        threads: how many to read with; as many as there are processors if not said.
        progress: called as reading goes on.
    """
    wishes = wishes_of(
        task=task,
        layout=layout,
        labels=labels,
        ignore=ignore,
        reduce_labels=reduce_labels,
        columns=columns,
        subset=subset,
        limits=limits,
    )
    return report_of(read(gather(data, wishes), threads, progress))


def read(records: Records, threads: int | None = None, progress: Progress | None = None) -> Examined:
    """Read and decode the files of all records."""
    facts: list[Facts] = []
    prints: list[Fingerprints] = []
    pieces = [records.records[i : i + _TOGETHER] for i in range(0, len(records), _TOGETHER)]
    for seen, known in _in_order(pieces, records.limits, threads or os.cpu_count() or 1):
        facts += seen
        prints.append(known)
        if progress is not None:
            progress(len(facts), len(records))
    return Examined(records, facts, _joined(prints))


def report_of(examined: Examined) -> Report:
    """What all checks find."""
    findings = [finding for check in CHECKS for finding in check(examined)]
    data = examined.data
    splits: dict[str, int] = {}
    for record in data.records:
        if record.split is not None:
            splits[record.split] = splits.get(record.split, 0) + 1
    return Report(
        data.data,
        data.layout,
        data.task,
        data.labels.names if data.labels else (),
        len(data),
        splits,
        tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        data.notes,
        examined,
    )


def _in_order(
    pieces: Sequence[Sequence[Record]], limits: Limits, threads: int
) -> Iterator[tuple[list[Facts], Fingerprints]]:
    """What was learnt of each piece. Only a few are under way at any time."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[tuple[list[Facts], Fingerprints]]] = []
        for piece in pieces:
            waiting.append(pool.submit(_look_at, piece, limits))
            if len(waiting) > 2 * threads:
                yield waiting.pop(0).result()
        for each in waiting:
            yield each.result()


def _look_at(records: Sequence[Record], limits: Limits) -> tuple[list[Facts], Fingerprints]:
    facts = [look(record.picture, record.mask, limits) for record in records]
    return facts, fingerprints([record.picture for record in records], limits, threads=1)


def _joined(prints: Sequence[Fingerprints]) -> Fingerprints:
    if not prints:
        prints = [fingerprints([], threads=1)]
    return Fingerprints(
        np.concatenate([each.bits for each in prints]),
        np.concatenate([each.brightness for each in prints]),
        np.concatenate([each.colours for each in prints]),
        np.concatenate([each.readable for each in prints]),
    )
