"""`lumora push`: a bundle sent to the Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from lumora.cli import options, output

Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder.", show_default=False)]
Repository = Annotated[
    str, typer.Argument(metavar="REPO", help="The repository, user/name; made if it is not there.", show_default=False)
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository that only you can see.")]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="BRANCH", help="The branch, made if it is not there; main if not said."),
]


def command(
    bundle: Bundle,
    repository: Repository,
    private: Private = False,
    revision: Revision = None,
    base: options.Base = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Send a bundle to a repository on the Hub, with its card.

    It is verified in a fresh process before, and what has arrived is compared with what was sent. You must be logged in
    (`hf auth login`) or have a token in HF_TOKEN.
    """
    from lumora.bundle.hub import push
    from lumora.cli.transfers import transfers

    with transfers("verifying in a fresh process, then sending", hidden=quiet):
        address = push(bundle, repository, private=private, revision=revision, base=base)
    if json:
        output.json({"bundle": bundle, "repository": repository, "revision": revision, "address": address})
    elif quiet:
        typer.echo(address)
    else:
        output.facts({"bundle": bundle, "sent to": address, "load it with": f'lumora.load("{repository}")'})
