"""`lumora studio`: the page in the browser."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from lumora.cli import options, output
from lumora.cli.stopping import SIGNALLED
from lumora.errors import OutputError

Data = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="What is opened at first: a folder, a table.", show_default=False),
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where trainings lie, and new ones are put.")]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", metavar="N", min=0, max=65_535, help="7860 or the next free one if not said.", show_default=False
    ),
]
Browse = Annotated[bool, typer.Option("--open/--no-open", help="Whether to open it in your browser.")]


def command(
    data: Data = None,
    runs: Runs = Path("runs"),
    port: Port = None,
    open: Browse = True,
    json: options.JsonAddress = False,
    debug: options.Debug = False,
) -> None:
    """Look at data, train, see results, try pictures: a page in your browser.

    It works without a network, on this machine alone: it listens on 127.0.0.1. Ctrl-C ends it; trainings that it has
    started go on, and are found again the next time.
    """
    if runs.exists() and not runs.is_dir():
        raise typer.BadParameter(f"{runs} is a file; name a folder.", param_hint="--runs")
    from lumora.studio import Served, serve

    def told(served: Served) -> None:
        typer.echo(f"The studio is at {served.address} (Ctrl-C ends it).", err=True)
        if json:
            output.json({"address": served.address, "runs": str(served.runs)}, on_one_line=True)
        if open:
            import webbrowser

            # In a thread: where there is no window, a browser for terminals may be found, and waited for.
            threading.Thread(target=webbrowser.open, args=(served.address,), daemon=True).start()

    try:
        serve(runs, data, port=port, told=told)
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--port") from error
    except KeyboardInterrupt:
        os._exit(SIGNALLED + signal.SIGINT)  # without waiting for a thread that still examines or plans
