"""What commands that train have in common: they show how it goes, end tidily, and tell the result."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lumora.training import Run
    from lumora.training.events import Listener

Quiet = Annotated[bool, typer.Option("--quiet", help="Tell warnings, and the result in one line.")]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON, for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def carry_out(training: Callable[[Listener], Run], *, quiet: bool, json: bool) -> None:
    """Let a training run and tell what it came to; end with 130 or 143 where a signal cut it short.

    Of several processes that train together, the first one alone speaks.
    """
    from lumora.cli import progress, summary
    from lumora.cli.stopping import telling_how_to_go_on

    first = os.environ.get("RANK", "0") == "0"
    shown = progress.display(quiet or not first)
    with telling_how_to_go_on(lambda: shown.folder), shown:
        shown.doing("looking at the data")
        run = training(shown)
    if first and shown.about is not None:
        summary.show(run, shown.about, json=json, quiet=quiet)
    summary.end(run)
