"""A repaired copy of data. The original is only ever read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lumora.data.content import InFile
from lumora.data.doctor.examining import Progress, examine
from lumora.data.doctor.records import Records
from lumora.data.doctor.repair.plan import Change, plan
from lumora.data.doctor.repair.writing import write
from lumora.data.doctor.report import Report
from lumora.data.labels import IGNORE
from lumora.errors import OutputError

__all__ = ["Change", "Repair", "check_place", "repair"]


@dataclass(frozen=True)
class Repair:
    """A copy of data, with what was changed for it."""

    out: Path
    changes: tuple[Change, ...]
    after: Report
    """What an examination of the copy finds: what could not be repaired."""

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "out": str(self.out),
            "changes": [asdict(change) for change in self.changes],
            "after": self.after.as_dict(),
        }


def repair(report: Report, out: str | Path, *, threads: int | None = None, progress: Progress | None = None) -> Repair:
    """Write a repaired copy of examined data, and examine that.

    Files without defects are copied byte for byte; pictures that change are written as PNG, so that their pixels stay
    exactly as they were. Classes lie in folders of their names, masks in `masks` beside `images`, and what fits neither
    is told by a table. The folder appears when it is complete.

    Args:
        report: what `examine` gave.
        out: a folder that is not there yet or is empty, and not within the data.
        threads: how many to read and write with.
        progress: called as writing goes on.
    """
    if report.examined is None:
        raise ValueError("This report has no facts of files; repair what examine() returned.")
    out = Path(out)
    check_place(out, _roots(report.examined.data))
    planned = plan(report.examined)
    write(report.examined, planned, out, threads, progress)
    data = report.examined.data
    ignore = data.labels.ignore if data.labels is not None else IGNORE
    return Repair(out, tuple(planned.changes), examine(out, ignore=ignore, limits=data.limits, threads=threads))


def check_place(out: Path, data: Iterable[Path]) -> None:
    """Raise an error unless a copy may be written to a place: it is free, and not within folders that hold the data."""
    place = out.resolve()
    if out.is_symlink() or (place.exists() and not place.is_dir()):
        raise OutputError(f"{out} is a file or a link; name a folder that is not there yet.")
    if place.is_dir() and any(place.iterdir()):
        raise OutputError(f"{out} is not empty; name a folder that is not there yet.")
    for root in data:
        if place.is_relative_to(root.resolve()):
            raise OutputError(f"{out} lies within the data ({root}), which stay as they are; name a folder elsewhere.")


def _roots(data: Records) -> Iterator[Path]:
    """The folders that hold the data; beside a table or archive there may be other things."""
    given = Path(data.data)
    if not given.is_file():
        yield from (folder for folder in (given, data.root) if folder is not None and folder.exists())
    contents = [content for record in data.records for content in (record.picture, record.mask)]
    yield from {content.path.parent for content in contents if isinstance(content, InFile)}
