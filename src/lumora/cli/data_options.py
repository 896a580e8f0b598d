"""Options that say how data are to be read, and what they mean."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from lumora.errors import DataError
from lumora.paths import at_home

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
def there(data: str) -> Generator[None]:
    """Inside, data that are not there are a misuse, which ends the program with 2."""
    try:
        yield
    except DataError as error:
        if at_home(data).exists():
            raise
        raise typer.BadParameter(str(error), param_hint="DATA") from error
