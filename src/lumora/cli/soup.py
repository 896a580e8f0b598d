"""`lumora soup`: one bundle that is the mean of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumora.cli import options, output, places
from lumora.errors import BundleError

Bundles = Annotated[
    list[str],
    typer.Argument(
        metavar="BUNDLE...", help="Bundles of one task, with the same labels, on the same base.", show_default=False
    ),
]
Out = Annotated[Path, options.place("--out", "DIR", "A new folder for the bundle.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="W,W…", help="How much each counts; all alike if not said.", show_default=False),
]
Rank = Annotated[
    int | None,
    typer.Option("--rank", metavar="N", min=1, help="Cut the adapters down to this rank.", show_default=False),
]


def command(
    bundles: Bundles,
    out: Out,
    weights: Weights = None,
    rank: Rank = None,
    base: options.Base = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write a bundle that is the mean of several with the same labels, and verify it.

    Whether it is better than each of them, only `lumora evaluate` tells.
    """
    shares = _weights(weights, len(bundles))
    for bundle in bundles:
        places.check_new(out, is_ours=_is_bundle, replace=force, apart_from=bundle)
    from lumora.bundle.soup import soup

    with output.doing("mixing, and verifying what was written", hidden=quiet):
        made = soup(bundles, out, weights=shares, rank=rank, base=base)
    if json:
        output.json({"bundles": bundles, "weights": shares, "rank": rank, "out": str(made)})
    elif quiet:
        typer.echo(str(made))
    else:
        output.facts({"mixed": ", ".join(bundles), "written to": str(made), "next": f"lumora evaluate {made} DATA"})


def _weights(given: str | None, count: int) -> list[float] | None:
    from lumora.bundle.soup import shares_of

    try:
        shares = None if given is None else [float(word) for word in given.split(",")]
        shares_of(shares, count)
    except ValueError as error:  # of the numbers, and of ours
        reason = str(error) if isinstance(error, BundleError) else f"{given!r} are no numbers with commas between them."
        raise typer.BadParameter(reason, param_hint="--weights" if given else "BUNDLE") from error
    return shares


def _is_bundle(folder: Path) -> bool:
    from lumora.bundle.names import ABOUT

    return (folder / ABOUT).is_file() and places.has_only_what_was_written(folder)
