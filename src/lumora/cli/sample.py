"""`lumora sample`: pictures to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lumora.cli import output
from lumora.cli.options import at_home

app = typer.Typer(help="Write data to try things with.", no_args_is_help=True, rich_markup_mode=None)


Task = Literal["classification", "segmentation"]
Format = Literal["jpg", "png"]


@app.callback()
def options() -> None:
    """Write data to try things with."""


@app.command("scenes")
def scenes(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A new or empty folder.", callback=at_home, show_default=False),
    ],
    task: Annotated[
        Task, typer.Option(help="Class folders of kinds of scenes, or pictures and masks.")
    ] = "classification",
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many pictures, in all splits together.")] = 1000,
    size: Annotated[str, typer.Option(metavar="SIDE|WIDTHxHEIGHT", help="Pixels of each picture.")] = "256",
    seed: Annotated[int, typer.Option(metavar="N", help="Other seeds give other scenes.")] = 0,
    format: Annotated[Format, typer.Option(help="How pictures are saved; masks are PNG files always.")] = "jpg",
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Write generated landscapes with labels or masks as ordinary files.

    The same options give the same files.
    """
    height, width = _sides(size)
    from lumora.data.scenes import write_scenes
    from lumora.data.scenes.source import labels_of

    with output.progress(f"writing to {folder}", count) as show:
        splits = write_scenes(
            folder,
            count,
            size=(height, width),
            seed=seed,
            task=task,
            format=format,
            force=force,
            progress=lambda done, _: show(done),
        )
    labels = labels_of(task).names
    if json:
        facts = {"folder": str(folder), "task": task, "splits": splits, "labels": list(labels)}
        output.json({**facts, "width": width, "height": height, "seed": seed, "format": format})
        return
    output.facts(
        {
            "folder": str(folder),
            "task": task,
            "pictures": ", ".join(f"{number:,} {split}" for split, number in splits.items()),
            "size": f"{width} × {height}",
            "labels": ", ".join(labels),
        }
    )


def _sides(size: str) -> tuple[int, int]:
    """Height and width from `256` or `320x240`."""
    sides = size.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        text = f"{size!r} is neither a side such as 256 nor WIDTHxHEIGHT such as 320x240."
        raise typer.BadParameter(text, param_hint="--size")
    return int(sides[-1]), int(sides[0])
