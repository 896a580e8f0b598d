"""`lumora resume`: going on with a training that was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumora.cli import options, showing
from lumora.errors import RunError

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that was begun.", show_default=False)]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DATA", help="Where the same data lie now, if they moved.", show_default=False),
]


@showing.told_once()
def command(
    run: Run,
    data: Data = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Go on with a training that was interrupted.

    From its last checkpoint, to what it would have come to without the interruption. A run that is done is measured
    and written again.
    """
    from lumora.training import resume
    from lumora.training.folder import RunFolder

    try:
        RunFolder(run).check_begun()
    except RunError as error:
        raise typer.BadParameter(str(error), param_hint="RUN") from error
    showing.carry_out(lambda listener: resume(run, data, listeners=[listener]), quiet=quiet, json=json)
