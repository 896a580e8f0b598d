"""The options of `lumora predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lumora.cli import options

Given = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURES",
        help="Files, folders with all pictures in them, patterns like 'photos/**/*.jpg', or - for a list of paths on "
        "the standard input.",
        show_default=False,
    ),
]
Out = Annotated[Path, options.place("--out", "DIR", "A new folder, or one that this command has written.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier call has stopped.")]
Palette = Annotated[
    str | None,
    typer.Option(
        "--palette",
        metavar="NAME|FILE",
        help="Colours of classes: ade20k, cityscapes, voc, distinct, or a file; the bundle's own if not said.",
        show_default=False,
    ),
]
Tile = Annotated[
    str | None,
    typer.Option(
        "--tile",
        metavar="N|auto",
        help="Predict masks of larger pictures by tiles with sides of N pixels, or as large as the model sees; if not "
        "said, only those of TIFFs beyond --max-pixels.",
        show_default=False,
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        "--overlap", metavar="N", min=0, help="Pixels by which tiles overlap; about a quarter.", show_default=False
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare", help="Name several bundles before the pictures; show them side by side, and where they disagree."
    ),
]
Strength = Annotated[
    float, typer.Option("--strength", metavar="X", help="How much the adapters count: 0 not at all, 1 as trained.")
]
Flip = Annotated[bool, typer.Option("--flip", help="Look at every picture mirrored as well, and average.")]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Pictures in a batch.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and end with 0.")]
NoOverlays = Annotated[bool, typer.Option("--no-overlays", help="Do not draw predictions on the pictures.")]
