"""The same picture with different labels."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.checks.label_variants import plain
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding


def conflicts(examined: Examined) -> Iterator[Finding]:
    """Pictures that are there more than once, and with other labels or masks each time."""
    records = examined.data.records
    found: list[int] = []
    for group in examined.same:
        if examined.data.task == "segmentation":
            masks = {mask.digest for i in group if (mask := examined.facts[i].mask) is not None and not mask.problem}
            differ = len(masks) > 1
        else:
            differ = len({tuple(sorted(map(plain, records[i].labels))) for i in group if records[i].labels}) > 1
        if differ:
            found += group
    if found:
        what = "masks" if examined.data.task == "segmentation" else "labels"
        some = ""
        if examined.data.task != "segmentation":
            some = ", ".join(f"{examined.name(i)} is {' and '.join(records[i].labels)!r}" for i in found[:2])
        yield Finding(
            "conflicting-labels",
            "error",
            f"{len(found):,} files of pictures that come again with other {what}{f': {some} …' if some else '.'}",
            "Keep the one that is right; a picture that shows both needs a task with several labels.",
            examined.names(found),
        )
