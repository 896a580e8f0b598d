"""`lumora doctor`: what is wrong with data, and a repaired copy."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lumora.cli import data_options, options, output
from lumora.errors import OutputError

if TYPE_CHECKING:
    from lumora.data.doctor import Repair, Report

_SHOWN = 5
_HEADINGS = {
    "error": ("Errors: they stop or spoil a training.", "red"),
    "warning": ("Warnings: often a mistake, or it makes a training worse.", "yellow"),
    "note": ("Notes: to be known.", "cyan"),
}

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A folder, a table, an archive, or a dataset's name on the Hub.", show_default=False
    ),
]
Fix = Annotated[
    Path | None, options.place("--fix", "OUT", "Write a repaired copy into this new folder; DATA stay as they are.")
]
Task = Annotated[
    Literal["classification", "multilabel", "segmentation"] | None,
    typer.Option("--task", help="What the data are for, if they leave a choice.", show_default=False),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="How many to read with.", show_default=False)
]


def command(
    data: Data,
    fix: Fix = None,
    task: Task = None,
    layout: data_options.Layout = None,
    labels: data_options.LabelNames = None,
    ignore: data_options.Ignore = None,
    reduce_labels: data_options.Reduce = None,
    column: data_options.Columns = None,
    subset: data_options.Subset = None,
    max_pixels: options.MaxPixels = None,
    threads: Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON with every file, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Say what is wrong with data, and write a mended copy.

    Every file is read, and nothing is changed: --fix writes elsewhere.

    Ends with 1 if there are errors; with --fix, if the copy has any.
    """
    opening = {
        "task": task,
        "layout": layout,
        "labels": data_options.labels_of(labels),
        "ignore": ignore or 255,
        "reduce_labels": reduce_labels,
        "columns": data_options.columns_of(column or ()),
        "subset": subset,
    }
    with _misuses(data):
        report, repaired = _done(data, fix, opening, max_pixels, threads)
    _tell(report, repaired, json=json)
    if (repaired.after if repaired else report).failed:
        raise typer.Exit(1)


def _done(
    data: str, fix: Path | None, opening: dict[str, Any], max_pixels: int | None, threads: int | None
) -> tuple[Report, Repair | None]:
    """What is wrong, and the repaired copy if one is wanted."""
    from lumora.data import Limits
    from lumora.data.doctor import examine, repair
    from lumora.data.doctor.repair import check_place

    if fix is not None:
        check_place(fix, [Path(data)])
    limits = Limits() if max_pixels is None else Limits(max_pixels)
    with _progress("reading") as told:
        report = examine(data, limits=limits, threads=threads, progress=told, **opening)
    if fix is None:
        return report, None
    with _progress("writing") as told:
        return report, repair(report, fix, threads=threads, progress=told)


@contextmanager
def _misuses(data: str) -> Generator[None]:
    """Inside, data that are not there, or no place for the copy, are a misuse, which ends the program with 2."""
    try:
        with data_options.there(data):
            yield
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--fix") from error


def _tell(report: Report, repaired: Repair | None, *, json: bool) -> None:
    if json:
        output.json({**report.as_dict(), **({"repair": repaired.as_dict()} if repaired else {})})
        return
    _show(report)
    if repaired is not None:
        _show_repair(repaired)


@contextmanager
def _progress(what: str) -> Generator[Callable[[int, int], None]]:
    """A bar that appears once it is known how much there is."""
    with ExitStack() as stack:
        bars: list[Callable[[int], None]] = []

        def told(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(output.progress(what, total)))
            bars[0](done)

        yield told


def _show(report: Report) -> None:
    splits = ", ".join(f"{count:,} {split}" for split, count in report.splits.items())
    labels = ", ".join(report.labels[:8]) + (f" and {len(report.labels) - 8:,} more" if len(report.labels) > 8 else "")
    output.facts(
        {
            "data": report.data,
            "read as": f"{report.task} from {report.layout}" if report.task else report.layout,
            "pictures": f"{report.pictures:,}" + (f" ({splits})" if splits else ""),
            "labels": labels or "none",
        }
    )
    for note in report.notes:
        output.note(note)
    _show_findings(report)


def _show_findings(report: Report) -> None:
    for severity, (heading, colour) in _HEADINGS.items():
        findings = [finding for finding in report.findings if finding.severity == severity]
        if findings:
            output.heading(heading, colour)
        for each in findings:
            output.item(f"{each.kind}: {each.found}", [each.advice], _some(each.files))
    counts = {severity: sum(finding.severity == severity for finding in report.findings) for severity in _HEADINGS}
    words = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items() if count)
    typer.echo(f"\n{words}" if words else "Nothing is wrong.")


def _some(files: Sequence[str]) -> list[str]:
    more = [f"and {len(files) - _SHOWN:,} more (--json lists all)"] if len(files) > _SHOWN else []
    return [*files[:_SHOWN], *more]


def _show_repair(repaired: Repair) -> None:
    output.heading(f"Repaired copy in {repaired.out}")
    alike: dict[tuple[str, str], list[str]] = {}
    for each in repaired.changes:
        alike.setdefault((each.kind, each.what), []).append(each.file)
    for (kind, what), files in alike.items():
        output.item(f"{kind}: {what}", [], _some(files))
    if not alike:
        typer.echo("Nothing had to be changed.")
    typer.echo(f"\nThe copy has {repaired.after.pictures:,} pictures. What is left in it:")
    _show_findings(repaired.after)
