"""Pictures that are there more than once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding, Severity
from lumora.data.labels import counted

_ACROSS = "Keep each in one split (--fix takes it out of the smaller), or what was learnt by heart is measured."


def duplicates(examined: Examined) -> Iterator[Finding]:
    """The very same pictures, and pictures that look the same, across splits and within one."""
    across, within = _sorted(examined, examined.same)
    yield from _finding(
        examined, across, "duplicates-across-splits", "error", "of the same picture in several splits", _ACROSS
    )
    yield from _finding(
        examined,
        within,
        "duplicates",
        "warning",
        "of pictures that are the same, pixel for pixel",
        "Take the copies away; they count double.",
    )
    across, within = _sorted(examined, examined.alike)
    yield from _finding(
        examined,
        across,
        "near-duplicates-across-splits",
        "warning",
        "of near duplicates in several splits",
        _ACROSS,
    )
    yield from _finding(
        examined,
        within,
        "near-duplicates",
        "note",
        "of near duplicates",
        "Nothing needs to be done, if it is known: series, cuts from one film, copies at another size.",
    )


def _sorted(examined: Examined, groups: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """Groups with samples in several splits, and others."""
    records = examined.data.records
    across = [group for group in groups if len({records[i].split for i in group}) > 1]
    within = [group for group in groups if len({records[i].split for i in group}) == 1]
    return across, within


def _finding(
    examined: Examined, groups: Sequence[Sequence[int]], kind: str, severity: Severity, what: str, advice: str
) -> Iterator[Finding]:
    if not groups:
        return
    files = examined.names(i for group in groups for i in group)
    first = " = ".join(examined.names(groups[0][:3]))
    more = " …" if len(groups) > 1 or len(groups[0]) > 3 else ""
    yield Finding(kind, severity, f"{counted(len(groups), 'group')} {what}: {first}{more}", advice, files)
