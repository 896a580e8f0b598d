"""How results look: facts and tables for people, JSON for machines. Results go to the standard output, notes do not."""

from __future__ import annotations

import json as json_module
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer


def json(value: Mapping[str, Any], *, on_one_line: bool = False) -> None:
    """Write one JSON object."""
    typer.echo(json_module.dumps(value, indent=None if on_one_line else 2))


def numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers for JSON, which has no "not a number".

    >>> numbers({"f1": 0.5, "auroc": math.nan})
    {'f1': 0.5, 'auroc': None}
    """
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}


def number(value: float | None) -> str:
    """A number for people.

    >>> number(0.87654321), number(12.0), number(None)
    ('0.8765', '12', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value == int(value) and value > 1 else f"{value:.4f}"


def facts(values: Mapping[str, str]) -> None:
    """Write one line for each fact."""
    for name, value in values.items():
        typer.echo(f"{name + ':':<18} {value}")


def note(text: str) -> None:
    """Tell something about the result, beside it."""
    sys.stderr.write(f"note: {text}\n")  # `echo` would write past a display that stands in for the stream


def heading(text: str, colour: str | None = None) -> None:
    """Begin a part of a result; in colour where a person looks and `NO_COLOR` is not set."""
    plain = bool(os.environ.get("NO_COLOR"))  # https://no-color.org
    typer.echo("\n" + (text if plain else typer.style(text, fg=colour, bold=True)))


def item(title: str, lines: Sequence[str] = (), entries: Sequence[str] = ()) -> None:
    """Write one of several things, what is to be said of it, and a list; a terminal's width breaks the sentences."""
    typer.echo(f"\n{_broken(title, '  ', '    ')}")
    for line in lines:
        typer.echo(_broken(line, "    ", "    "))
    for entry in entries:
        typer.echo(f"      {entry}")


def _broken(text: str, first: str, later: str) -> str:
    if not sys.stdout.isatty():
        return first + text  # one line is found and counted more easily
    width = max(40, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Write a table, as wide as the terminal; whole when the output goes elsewhere."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in head:
        number = name in numbers
        made.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        made.add_row(*map(Text, row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(made)


@contextmanager
def progress(title: str, total: int, *, hidden: bool = False) -> Generator[Callable[[int], None], None, None]:
    """Show how far a long task has come while it runs; nothing when no one is looking, or if it is `hidden`.

    Gives the function that takes the number of parts that are done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def doing(what: str, *, hidden: bool = False) -> Generator[None, None, None]:
    """Say what takes its time while it does; nothing when no one is looking, or if it is `hidden`."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield
        return
    with console.status(Text(f"{what} …")):
        yield


def size(n_bytes: int) -> str:
    """A size for people.

    >>> size(512), size(2_596_000)
    ('512 B', '2.6 MB')
    """
    number, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{n_bytes} B" if unit == "B" else f"{number:.1f} {unit}"
