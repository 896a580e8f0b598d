"""`lumora export`: a bundle as a file for programs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumora.cli import options, output

Onnx = Annotated[Path, options.place("--onnx", "FILE", "The ONNX file to be written.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def command(
    bundle: options.Bundle,
    onnx: Onnx,
    base: options.Base = None,
    allow_other_base: options.AllowOtherBase = False,
    revision: options.Revision = None,
    force: Force = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write a bundle's model as an ONNX file, with its adapters folded in, and its labels and preprocessing inside.

    What onnxruntime makes of it is compared with torch before it is written.
    """
    _check_place(onnx, force)
    from lumora.predict.onnx_export import check_installed, export_onnx

    check_installed()
    with output.doing("converting, and comparing with torch", hidden=quiet):
        made = export_onnx(bundle, onnx, base=base, allow_other_base=allow_other_base, revision=revision)
    found = {
        "bundle": bundle,
        "out": str(made.path),
        "bytes": made.size,
        "dynamic": list(made.dynamic),
        "fixed": made.fixed,
        "compared": [list(shape) for shape in made.compared],
        "largest_difference": made.largest_difference,
    }
    if json:
        output.json(found)
    elif quiet:
        typer.echo(found["out"])
    else:
        output.facts(
            {
                "bundle": bundle,
                "written to": f"{made.path} ({output.size(made.size)})",
                "free": ", ".join(made.dynamic) or "nothing: one picture of one size at a time",
                **({"fixed": made.fixed} if made.fixed else {}),
                "beside torch": f"at most {made.largest_difference:.1e} of the largest logit apart, on "
                f"{len(made.compared)} inputs",
            }
        )


def _check_place(path: Path, force: bool) -> None:
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; name a file in it.", param_hint="--onnx")
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} is there already; replace it with --force.", param_hint="--onnx")
