"""What commands that train have in common: they show how it goes, end tidily, and tell the result."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumora.training import Run
    from lumora.training.events import Listener


@contextmanager
def told_once() -> Generator[None]:
    """Let one process tell why all end, where several were started together."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    from lumora.training.several import taking_part

    with taking_part():
        yield


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
