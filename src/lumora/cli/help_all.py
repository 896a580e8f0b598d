"""Help in two parts: what is usual on one screen, and everything with `--help-all`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand

_EVERYTHING = "lumora: help with everything"


class ShortHelp(TyperCommand):
    """A command whose help leaves out the options named here, unless `--help-all` asks for them."""

    left_out: ClassVar[frozenset[str]]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write those options that are asked for."""
        for parameter in self.params:
            option: Any = parameter
            option.hidden = parameter.name in self.left_out and _EVERYTHING not in ctx.meta
        super().format_options(ctx, formatter)


def _show(ctx: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    ctx.meta[_EVERYTHING] = True
    typer.echo(ctx.get_help())
    typer.echo("\nKeys for --set:")
    for line in _keys():
        typer.echo(line)
    raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option("--help-all", help="Show every option, and every key for --set.", callback=_show, is_eager=True),
]


def _keys() -> Iterator[str]:
    from lumora.training.schema.keys import keys

    width = max(50, min(80, shutil.get_terminal_size().columns) - 2)
    section = ""
    for key in keys().values():
        if key.section != section:
            section = key.section
            yield ""
        yield f"  {key.name}"
        text = f"{key.description}: {key.words}"
        yield from textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")
