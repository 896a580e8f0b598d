"""Options that several commands about bundles have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lumora import paths


def at_home(path: Path | None) -> Path | None:
    """The path that is written to, so that the same is checked before."""
    return path if path is None else paths.at_home(path)


def place(flag: str, metavar: str, text: str) -> Any:
    """An option that says where to write, with what its help says."""
    return typer.Option(flag, metavar=metavar, help=text, callback=at_home, show_default=False)


Bundle = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or its repository on the Hub.", show_default=False)
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="NAME", help="Where the bundle's base lies now, if it moved.", show_default=False),
]
AllowOtherBase = Annotated[
    bool, typer.Option("--allow-other-base", help="Go on where the base's weights are others than in training.")
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="NAME", help="A branch, tag or commit of the repository.", show_default=False),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="Where to compute: cpu, cuda …", show_default=False)
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="Pictures in a batch; as in training if not said."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", metavar="N", min=1, help="Larger pictures are not decoded; 80,000,000 if not said."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what this command has written there before.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Tell warnings, and the result in one line.")]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON, for machines.")]
JsonAddress = Annotated[bool, typer.Option("--json", help="Write where it listens as a line of JSON, for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
