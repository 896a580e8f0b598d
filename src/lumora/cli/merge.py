"""`lumora merge`: a bundle folded into its base, for programs that know nothing of Lumora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumora.cli import options, output, places

if TYPE_CHECKING:
    from lumora.bundle.merging import Merged

Out = Annotated[Path, options.place("--out", "DIR", "A new folder for the plain checkpoint.")]

_KINDS = {
    "transformers": "a checkpoint of transformers",
    "timm": "a checkpoint of timm, which transformers loads too",
    "tensors": "a state dict: this head is of no other library",
}


def command(
    bundle: options.Bundle,
    out: Out,
    base: options.Base = None,
    allow_other_base: options.AllowOtherBase = False,
    revision: options.Revision = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Write a bundle's model as a plain checkpoint, with its adapters folded into the weights.

    What was written is loaded again by its own library and compared with the bundle before it is kept.
    """
    places.check_new(out, is_ours=_is_merged, replace=force, apart_from=bundle)
    from lumora.bundle.merging import merge

    with output.doing("merging, and comparing what was written", hidden=quiet):
        merged = merge(bundle, out, base=base, allow_other_base=allow_other_base, revision=revision)
    found = _as_dict(bundle, merged)
    if json:
        output.json(found)
    elif quiet:
        typer.echo(found["out"])
    else:
        output.facts(
            {
                "bundle": bundle,
                "written to": f"{found['out']} ({output.size(found['bytes'])})",
                "what it is": _KINDS[merged.kind],
                "load it with": merged.snippet,
            }
        )


def _is_merged(folder: Path) -> bool:
    """Whether a folder holds nothing but a merged checkpoint."""
    from lumora.bundle.names import PROOF
    from lumora.models.places import INDEX, WEIGHTS

    weights = any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS + INDEX))
    return weights and not (folder / PROOF).exists() and places.has_only_what_was_written(folder)


def _as_dict(bundle: str, merged: Merged) -> dict[str, Any]:
    files = [path for path in merged.folder.rglob("*") if path.is_file()]
    return {
        "bundle": bundle,
        "out": str(merged.folder),
        "kind": merged.kind,
        "snippet": merged.snippet,
        "bytes": sum(path.stat().st_size for path in files),
        "files": sorted(path.relative_to(merged.folder).as_posix() for path in files),
    }
