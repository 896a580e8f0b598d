"""`lumora pull`: a bundle fetched from the Hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lumora.cli import options, output, places

Repository = Annotated[str, typer.Argument(metavar="REPO", help="The repository, user/name.", show_default=False)]
Out = Annotated[Path | None, options.place("--out", "DIR", "The folder; called as the repository if not said.")]


def command(
    repository: Repository,
    out: Out = None,
    revision: options.Revision = None,
    base: options.Base = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Fetch a bundle from a repository on the Hub into a folder.

    It is kept once a fresh process has got its model from it. For a private repository you must be logged in
    (`hf auth login`) or have a token in HF_TOKEN.
    """
    folder = out if out is not None else Path(repository.rstrip("/").rpartition("/")[2] or ".")
    places.check_new(folder, is_ours=_is_bundle, replace=force)
    from lumora.bundle import read_about
    from lumora.bundle.hub import pull
    from lumora.cli.transfers import transfers

    with transfers("fetching, then verifying in a fresh process", hidden=quiet):
        home = pull(repository, folder, revision=revision, base=base)
    about = read_about(home)
    if json:
        found = {"repository": repository, "revision": revision, "out": str(home), "task": about.task}
        output.json({**found, "labels": list(about.labels.names), "metrics": output.numbers(about.metrics)})
    elif quiet:
        typer.echo(str(home))
    else:
        output.facts(
            {
                "repository": repository,
                "fetched to": str(home),
                "task": f"{about.task}, {len(about.labels):,} labels",
                "predict": f"lumora predict {shlex.quote(str(home))} PICTURES --out predictions",
            }
        )


def _is_bundle(folder: Path) -> bool:
    """Whether a folder holds nothing but a bundle."""
    from lumora.bundle.names import PROOF

    return (folder / PROOF).is_file() and places.has_only_what_was_written(folder)
