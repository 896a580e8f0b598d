"""`lumora demo`: a whole training on generated pictures, beside the other ways to train."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lumora.cli import options, output

if TYPE_CHECKING:
    from lumora.training.comparing import Way

Task = Literal["classification", "segmentation"]


@dataclass(frozen=True)
class Part:
    """What is shown of a task."""

    pictures: int
    size: int
    epochs: int
    score: str


PARTS: Mapping[Task, Part] = {
    "classification": Part(pictures=480, size=128, epochs=8, score="accuracy"),
    "segmentation": Part(pictures=160, size=128, epochs=10, score="mean_iou"),
}
"""Small enough for about a minute of LoRA on two cores, large enough that it has to be learnt."""


def command(
    task: Annotated[Task | None, typer.Argument(help="Both, if none is named.", show_default=False)] = None,
    out: Annotated[
        Path | None, options.place("--out", "DIR", "A new folder for pictures and runs; in runs if not said.")
    ] = None,
    lora_only: Annotated[bool, typer.Option("--lora-only", help="Leave out what LoRA is compared with.")] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Adapt the embedded base to generated scenes, and compare LoRA with the other ways to train.

    Nothing is fetched. Pictures, runs and reports stay in the folder.
    """
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} is there already; name a new folder.", param_hint="--out")
    place = out or _free_place()
    tasks: Sequence[Task] = [task] if task else list(PARTS)
    found: dict[Task, list[Way]] = {
        name: _show(name, place / name, lora_only=lora_only, quiet=quiet, json=json) for name in tasks
    }
    if json:
        output.json({"folder": str(place), "tasks": {name: list(map(_as_dict, ways)) for name, ways in found.items()}})
    elif not quiet:
        _say_what_is_next(found)


def _free_place() -> Path:
    names = ("demo" if number == 1 else f"demo-{number}" for number in itertools.count(1))
    return next(place for place in (Path("runs") / name for name in names) if not place.exists())


def _show(task: Task, folder: Path, *, lora_only: bool, quiet: bool, json: bool) -> list[Way]:
    """Write the pictures, learn from them in every way, and tell what that came to."""
    from lumora.data.scenes import write_scenes
    from lumora.training.comparing import METHODS

    part, data = PARTS[task], folder / "pictures"
    with output.progress(f"drawing {part.pictures} scenes in {data}", part.pictures) as drawn:
        write_scenes(data, part.pictures, size=part.size, task=task, progress=lambda done, _: drawn(done))
    methods = ("lora",) if lora_only else ("lora", *(method for method in METHODS if method != "lora"))
    ways = _learnt(data, folder, part, methods, quiet=quiet)
    if not json:
        _tell(task, part, sorted(ways, key=lambda way: list(METHODS).index(way.method)))
    return ways


def _learnt(data: Path, folder: Path, part: Part, methods: tuple[str, ...], *, quiet: bool) -> list[Way]:
    from lumora.cli import progress, summary
    from lumora.cli.stopping import telling_how_to_go_on
    from lumora.training.comparing import METHODS, learn

    settings: dict[str, Any] = {"pictures.size": part.size, "train.epochs": part.epochs}
    ways: list[Way] = []
    for method in methods:
        shown = progress.display(quiet)
        with telling_how_to_go_on(lambda shown=shown: shown.folder), shown:
            shown.line(f"\n{folder.name}: {METHODS[method]}")
            ways.append(learn(data, folder / method, method, settings, [shown]))
        if ways[-1].run.bundle is None:
            output.note(f"stopped; `{summary.resume_command(ways[-1].run.folder)}` goes on with this run.")
            summary.end(ways[-1].run)
    return ways


def _tell(task: Task, part: Part, ways: Sequence[Way]) -> None:
    from lumora.training.comparing import METHODS

    output.heading(f"{task.capitalize()}: {part.pictures} scenes, {part.epochs} epochs")
    rows = [
        (
            METHODS[way.method],
            f"{way.run.scores[part.score]:.3f}",
            f"{way.run.seconds:.0f} s",
            f"{way.run.trained:,}",
            output.size(way.weights_bytes),
        )
        for way in ways
    ]
    head = ("way", part.score, "time", "trained parameters", "learnt")
    output.table(head, rows, numbers=head[1:])


def _as_dict(way: Way) -> dict[str, Any]:
    return {
        "method": way.method,
        "scores": dict(way.run.scores),
        "seconds": round(way.run.seconds, 3),
        "trained_parameters": way.run.trained,
        "weights_bytes": way.weights_bytes,
        "run": str(way.run.folder),
    }


def _say_what_is_next(found: dict[Task, list[Way]]) -> None:
    facts = {f"{task} report": str(ways[0].run.folder / "report.html") for task, ways in found.items()}
    bundle = next(ways[0].run.bundle for ways in found.values())
    output.facts(
        {
            **facts,
            "predict": f"lumora predict {shlex.quote(str(bundle))} PICTURES --out predictions",
            "your own": "lumora train FOLDER",
        }
    )
