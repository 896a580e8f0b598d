"""The first second of a training: the doctor looks at the data, as far as a second goes."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from lumora.data import Sample, Source
from lumora.data.doctor import Finding
from lumora.data.doctor.examining import read, report_of
from lumora.data.doctor.gathering import of_source
from lumora.data.labels import listed
from lumora.errors import DataError

_SECONDS = 1.0
_AT_FIRST = 32
"""Samples by which it is seen how long one takes."""
_MOST = 4096
_NEARLY_ALL = 0.8
"""So large a part takes hardly less time than all."""
_LOOKED_AT = ("train", "validation")

_ENDS_IT = {
    "unreadable",
    "empty-file",
    "too-large",
    "mask-size",
    "unknown-ids",
    "smoothed-mask",
    "colour-mask",
}
"""Kinds of errors with which a training would end as soon as it came to the file."""
_NEEDS_ALL = {"class-missing", "class-missing-in-split", "imbalance", "background", "mixed-modes", "mixed-masks"}
"""Kinds that say nothing where only some files were looked at."""


def look_at(source: Source, *, skip_bad: bool = False, seconds: float = _SECONDS) -> list[str]:
    """What should be known of the data before they are learnt from, in the doctor's words.

    Files that cannot be learnt from are an error, unless `skip_bad` says that they will be left out. Of many pictures a
    part is looked at, drawn evenly, as far as the time goes; then this is said too. Reads and decodes what it looks at.
    """
    whole = _only(source, _LOOKED_AT)
    count = sum(len(samples) for samples in whole.splits.values())
    some = _drawn(whole, min(count, _AT_FIRST))
    findings, took = _findings(some)
    looked_at = min(count, _AT_FIRST)
    if (could := _how_many(count, _AT_FIRST * seconds / max(took, 1e-6))) > looked_at:
        looked_at = could
        findings, _ = _findings(_drawn(whole, looked_at))
    if looked_at < count:
        findings = [finding for finding in findings if finding.kind not in _NEEDS_ALL]
    fatal = [finding for finding in findings if finding.severity == "error" and finding.kind in _ENDS_IT]
    of_how_many = f"{looked_at:,} of {count:,} pictures, evenly drawn, were looked at"
    if fatal and not skip_bad:
        raise DataError(_refused(fatal, f" {of_how_many}." if looked_at < count else ""))
    told = [f"The data: {_told(f)}" for f in findings if f.severity != "note" and f not in fatal]
    if looked_at < count:
        told.append(f"Of the data {of_how_many} in the second that a first look takes; `lumora doctor` looks at all.")
    return told


def _how_many(count: int, in_time: float) -> int:
    """How many of so many pictures are looked at where there is time for some."""
    return min(count if in_time >= _NEARLY_ALL * count else int(in_time), _MOST, count)


def _only(source: Source, splits: tuple[str, ...]) -> Source:
    return replace(source, splits={name: samples for name, samples in source.splits.items() if name in splits})


def _drawn(source: Source, count: int) -> Source:
    """So many of the samples, always the same ones, in their order."""
    numbers = set(random.Random(0).sample(range(sum(map(len, source.splits.values()))), count))
    splits: dict[str, list[Sample]] = {}
    start = 0
    for name, samples in source.splits.items():
        inside = sorted(n - start for n in numbers if start <= n < start + len(samples))
        splits[name] = [samples[i] for i in inside]
        start += len(samples)
    return replace(source, splits=splits)


def _findings(source: Source) -> tuple[list[Finding], float]:
    """What the doctor finds, and the seconds that it took."""
    began = time.monotonic()
    findings = report_of(read(of_source(source))).findings
    return list(findings), time.monotonic() - began


def _refused(fatal: list[Finding], looked_at: str) -> str:
    lines = "\n".join(f"- {_told(finding)}" for finding in fatal)
    return (
        f"The data cannot be learnt from as they are.{looked_at}\n{lines}\nMend this; `lumora doctor` tells all that "
        "is wrong, and --fix makes a mended copy. Or leave such pictures out with --skip-bad (data.skip_bad)."
    )


def _told(finding: Finding) -> str:
    files = f" ({listed(finding.files, 3)})" if finding.files else ""
    return f"{finding.found}{files} {finding.advice}"
