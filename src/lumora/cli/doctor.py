"""`lumora doctor`: what is wrong with data, and a repaired copy."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lumora.cli import output
from lumora.errors import DataError, OutputError

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
    Path | None,
    typer.Option(
        "--fix",
        metavar="OUT",
        help="Write a repaired copy into this new folder; DATA stay as they are.",
        show_default=False,
    ),
]
Task = Annotated[
    Literal["classification", "multilabel", "segmentation"] | None,
    typer.Option("--task", help="What the data are for, if they leave a choice.", show_default=False),
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", metavar="NAME", help="How the data lie, if they look like several layouts."),
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="FILE|NAMES",
        help="A file that lists the labels, voc, ade20k, or names with commas between them.",
    ),
]
Ignore = Annotated[
    list[int] | None,
    typer.Option(
        "--ignore", metavar="N", help="A number in masks that counts nowhere, 255 if not said; may be repeated."
    ),
]
Reduce = Annotated[
    bool | None,
    typer.Option(
        "--reduce-labels/--no-reduce-labels", help="Whether 0 in masks counts nowhere and 1 is the first class."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="ROLE=NAME",
        help="Which column of a table is the picture, label, mask or split; may be repeated.",
    ),
]
Subset = Annotated[
    str | None, typer.Option("--subset", metavar="NAME", help="The subset of a dataset on the Hub.", show_default=False)
]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", metavar="N", min=1, help="Larger pictures are not decoded; 80,000,000 if not said."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="How many to read with.", show_default=False)
]


def command(
    data: Data,
    fix: Fix = None,
    task: Task = None,
    layout: Layout = None,
    labels: LabelNames = None,
    ignore: Ignore = None,
    reduce_labels: Reduce = None,
    column: Columns = None,
    subset: Subset = None,
    max_pixels: MaxPixels = None,
    threads: Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON with every file, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Say what is wrong with data, and write a mended copy.

    Every file is read, and nothing is changed: --fix writes elsewhere.

    Ends with 1 if there are errors; with --fix, if the copy has any.
    """
    from lumora.data import Limits
    from lumora.data.doctor import examine, repair
    from lumora.data.doctor.repair import check_place

    columns = columns_of(column or ())
    repaired: Repair | None = None
    try:
        if fix is not None:
            check_place(fix, [Path(data)])
        with _progress("reading") as told:
            report = examine(
                data,
                task=task,
                layout=layout,
                labels=labels_of(labels),
                ignore=ignore or 255,
                reduce_labels=reduce_labels,
                columns=columns,
                subset=subset,
                limits=Limits() if max_pixels is None else Limits(max_pixels),
                threads=threads,
                progress=told,
            )
        if fix is not None:
            with _progress("writing") as told:
                repaired = repair(report, fix, threads=threads, progress=told)
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--fix") from error
    except DataError as error:
        if Path(data).exists():
            raise
        raise typer.BadParameter(str(error), param_hint="DATA") from error
    if json:
        output.json({**report.as_dict(), **({"repair": repaired.as_dict()} if repaired else {})})
    else:
        _show(report)
        if repaired is not None:
            _show_repair(repaired)
    if (repaired.after if repaired else report).failed:
        raise typer.Exit(1)


def labels_of(text: str | None) -> list[str] | str | None:
    """Names where there are commas between them, else the name of a list."""
    return [name.strip() for name in text.split(",")] if text and "," in text else text


def columns_of(said: Sequence[str]) -> dict[str, str | list[str]]:
    """The columns by what they hold; a role that is named again has several."""
    columns: dict[str, str | list[str]] = {}
    for each in said:
        role, equals, name = each.partition("=")
        if not (role and equals and name):
            raise typer.BadParameter(f"{each!r} is not ROLE=NAME, such as label=species.", param_hint="--column")
        before = columns.get(role)
        columns[role] = name if before is None else [*([before] if isinstance(before, str) else before), name]
    return columns


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
