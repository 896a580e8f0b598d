"""Data as the page shows them: thumbnails, how much there is of each class, and what the doctor found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lumora.data import Sample, Source, open_source, read_picture
from lumora.data.doctor import Finding, Report, examine
from lumora.data.doctor.records import Record, Records, name_of
from lumora.data.labels import Labels
from lumora.errors import DataError
from lumora.paths import at_home
from lumora.studio.found import data_of, run_folders
from lumora.studio.mask_cases import over_picture
from lumora.tasks.drawing import overlay
from lumora.training.report.data_summary import DataSummary, data_summary
from lumora.training.report.thumbnails import Thumbnail, thumbnail

ON_A_PAGE = 24
ALL = "all classes"
_LONGEST = 220
_OF_A_FINDING = 6


@dataclass(frozen=True, eq=False)
class Opened:
    """Data that lie open on the page."""

    path: str
    source: Source
    summary: DataSummary

    @property
    def masked(self) -> bool:
        """Whether the pictures have masks."""
        return self.source.task == "segmentation"


@dataclass(frozen=True)
class Shown:
    """One sample on the page."""

    key: str
    picture: Thumbnail | None
    """None where it cannot be read; `text` says why then."""
    text: str
    """Its label, or the classes in its mask."""


@dataclass(frozen=True)
class Page:
    """Some samples of many."""

    shown: tuple[Shown, ...]
    number: int
    """From 0."""
    pages: int
    samples: int


def place_of(typed: str, runs: Path | None = None) -> str:
    """What somebody typed as a path, if it leads to anything here, or did for one of these runs; or else as a name."""
    typed = typed.strip()
    path = at_home(typed)
    if not typed or path.exists():
        return str(path) if typed else typed
    named = (data_of(run) for run in (run_folders(runs) if runs else ()))
    return next((place for name, place in filter(None, named) if name == typed), typed)


def open_data(path: str) -> Opened:
    """Open data and look at a few of their pictures."""
    path = place_of(path)
    if not path:
        raise DataError("Name a folder with pictures, a table, or a dataset on the Hub.")
    source = open_source(path)
    return Opened(path, source, data_summary(source))


def page_of(opened: Opened, split: str, label: str, number: int, opacity: float) -> Page:
    """The samples of a split that show a class, as many as fit on a page.

    Of masks, which would all have to be read to know what they show, the class says nothing.
    """
    samples = opened.source.splits.get(split, ())
    wanted = range(len(samples))
    if label != ALL and not opened.masked:
        of_class = opened.source.labels.index(label)
        wanted = [i for i in wanted if of_class in _ids(samples[i])]
    pages = max(1, -(-len(wanted) // ON_A_PAGE))
    number = min(max(0, number), pages - 1)
    some = wanted[number * ON_A_PAGE : (number + 1) * ON_A_PAGE]
    shown = tuple(_shown(samples[i], opened.source.labels, opacity) for i in some)
    return Page(shown, number, pages, len(wanted))


def _shown(sample: Sample, labels: Labels, opacity: float) -> Shown:
    try:
        picture, mask = sample.picture(), sample.mask()
    except DataError as error:
        return Shown(sample.key, None, str(error))
    if mask is None:
        names = [labels.names[i] for i in _ids(sample)]
        return Shown(sample.key, thumbnail(picture, _LONGEST), ", ".join(names) or "no label")
    drawn = overlay(picture, mask, labels.palette(), opacity, labels.ignore)
    seen = [labels.names[i] for i in mask.unique().tolist() if 0 <= i < len(labels) and i != labels.ignore]
    return Shown(sample.key, thumbnail(drawn, _LONGEST), ", ".join(seen) or "nothing that counts")


def _ids(sample: Sample) -> Sequence[int]:
    target = sample.target
    return () if target is None else (target,) if isinstance(target, int) else target


# --- the doctor -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A finding with some of its pictures."""

    finding: Finding
    pictures: tuple[tuple[str, Thumbnail], ...]
    more: int
    """Files that are not shown."""
    masked: bool = False
    """Whether there are masks over the pictures, or beside them."""


@dataclass(frozen=True)
class Visit:
    """What the doctor found."""

    report: Report
    cases: tuple[Case, ...]


def visit(path: str, progress: Callable[[int, int], None] | None = None) -> Visit:
    """Examine data, and fetch a few pictures to each finding. Reads every file once.

    `progress` is told how many of how many samples were read.
    """
    report = examine(path, progress=progress)
    records = report.examined.data if report.examined else None
    by_name: dict[str, Record] = {}
    for record in records.records if records else ():
        for content in (record.picture, record.mask):
            if content is not None and records is not None:
                by_name.setdefault(name_of(content, records.root), record)
    return Visit(report, tuple(_case(finding, by_name, records) for finding in report.findings))


def _case(finding: Finding, by_name: dict[str, Record], records: Records | None) -> Case:
    pictures: list[tuple[str, Thumbnail]] = []
    masked = False
    for name in finding.files:
        if len(pictures) == _OF_A_FINDING:
            break
        record = by_name.get(name)
        if record is None or records is None:
            continue
        of_mask = record.mask is not None and name == name_of(record.mask, records.root)
        try:
            if of_mask:
                drawn = over_picture(record, records, by_number=finding.kind == "unknown-ids")
            else:
                drawn = read_picture(record.picture)
        except DataError:  # that may be what was found
            continue
        pictures.append((name, thumbnail(drawn, _LONGEST)))
        masked |= of_mask
    return Case(finding, tuple(pictures), len(finding.files) - len(pictures), masked)
