"""The program `lumora`: its commands, and how it ends.

It ends with 0 when the work is done, 1 when it failed and 2 when it was called wrongly. Results go to the standard
output, everything else to the standard error, and a traceback is shown with `--debug` only.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated, TextIO

import typer

from lumora.cli import (
    demo,
    doctor,
    evaluate,
    export,
    inspect,
    merge,
    output,
    plan,
    predict,
    pull,
    push,
    resume,
    sample,
    serve,
    soup,
    studio,
    train,
)
from lumora.errors import LumoraError, LumoraWarning

app = typer.Typer(
    name="lumora",
    help="Adapt pretrained vision models to your own pictures with LoRA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help comes up in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.command)
app.command("doctor")(doctor.command)
app.command("inspect")(inspect.command)
app.command("plan")(plan.command)
app.command("predict")(predict.command)
app.command("evaluate")(evaluate.command)
app.command("merge")(merge.command)
app.command("export")(export.command)
app.command("soup")(soup.command)
app.command("push")(push.command)
app.command("pull")(pull.command)
app.command("train", cls=train.Help)(train.command)
app.command("resume")(resume.command)
app.command("serve")(serve.command)
app.command("studio")(studio.command)
app.add_typer(sample.app, name="sample")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lumora {version('lumora')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def _write_what_the_terminal_can() -> None:
    """Let a `?` stand for a letter that the standard output cannot hold, as in the locale C without UTF-8."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Tell a warning of ours as a note; those of others keep the place that they come from."""
    if issubclass(category, LumoraWarning):
        output.note(str(message))
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)


def main() -> None:
    """Run the program and end it with 0, 1 or 2."""
    # Read before the commands are parsed, so that a failure to parse can be looked into as well.
    debug = "--debug" in sys.argv
    _write_what_the_terminal_can()
    warnings.showwarning = _show_warning
    try:
        app()
    except Exception as error:
        if debug:
            raise
        unexpected = not isinstance(error, LumoraError)
        text = f"{type(error).__name__}: {error}. Add --debug for the traceback." if unexpected else str(error)
        typer.echo(f"error: {text}", err=True)
        sys.exit(1)
