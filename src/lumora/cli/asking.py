"""The options by which commands ask for a training, and the recipe that they ask for."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lumora.cli import completing, data_options, options
from lumora.errors import RecipeError

if TYPE_CHECKING:
    from lumora.training import Recipe

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA|RECIPE",
        help="A folder, a table, a dataset's name on the Hub; or an earlier run's recipe.yaml.",
        show_default=False,
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="NAME", help="The pretrained model; the embedded one if not said."),
]
Task = Annotated[
    Literal["auto", "classification", "multilabel", "segmentation"] | None,
    typer.Option("--task", metavar="NAME", help="classification, multilabel or segmentation; else found out."),
]
Out = Annotated[Path | None, options.place("--out", "RUN", "A new folder for the run; in runs if not said.")]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, help="How often every picture is seen.")]
MaxTime = Annotated[
    str | None, typer.Option("--max-time", metavar="TIME", help="End after 90s, 10m or 1h30m, say; the best is kept.")
]
Full = Annotated[bool, typer.Option("--full", help="Train all weights, without adapters.")]
HeadOnly = Annotated[bool, typer.Option("--head-only", help="Train the head alone.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A key of the recipe, such as lora.r=16; may be repeated.",
        autocompletion=completing.settings,
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be read.")]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="NAME", help="tensorboard, wandb, trackio or mlflow; may be repeated."),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Another seed, another training.")]


def wishes(
    *,
    base: str | None,
    task: str | None,
    epochs: int | None,
    full: bool,
    head_only: bool,
    skip_bad: bool,
    layout: str | None,
    labels: str | None,
    seed: int | None,
) -> dict[str, Any]:
    """What the options that every training has ask for, by the recipe's keys; None where one was not given."""
    return {
        "base.name": base,
        "data.task": task,
        "data.skip_bad": skip_bad or None,
        "data.layout": layout,
        "data.labels": data_options.labels_of(labels),
        "train.method": method(full, head_only),
        "train.epochs": epochs,
        "train.seed": seed,
    }


def is_recipe(data: str) -> bool:
    """Whether what was named is a recipe's file, and not data."""
    return Path(data).suffix.lower() in (".yaml", ".yml") and not Path(data).is_dir()


def recipe_of(data: str, wished: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """The recipe that the options ask for, with gaps where they do not; misuse where it cannot be.

    Args:
        data: where the pictures lie, or an earlier run's recipe, whose folder is not taken again.
        wished: values of keys that have an option of their own; None where that was not given.
        settings: each as `key=value`.
    """
    from lumora.training import parse_asked, read_recipe, split_settings
    from lumora.training.folder import free_place
    from lumora.training.whereabouts import place_from_here

    if (Path(data) / "recipe.yaml").is_file():
        text = f"{data} is a run. Go on with it by `lumora resume {data}`, or begin another by {data}/recipe.yaml."
        raise typer.BadParameter(text, param_hint="DATA")
    before = read_recipe(_existing(data)) if is_recipe(data) else None
    given = {key: value for key, value in wished.items() if value is not None}
    if before is None:
        given["data.path"] = Path(data) if Path(data).exists() else data
    with misuses():
        typed = split_settings(settings)
        if both := sorted(given.keys() & typed.keys()):
            text = f"{both[0]} is said twice, by --set and by an option of its own; leave one of them out."
            raise typer.BadParameter(text, param_hint="--set")
        wanted = {**given, **typed}
        if before is not None and before.run.out is not None:
            wanted.setdefault("run.out", free_place(before.run.out))
        if before is not None and before.data.path is not None:
            place = place_from_here(Path(data).parent, before.data.path)
            if place != before.data.path:
                wanted.setdefault("data.path", Path(place))
        recipe = parse_asked(wanted, onto=before)
    if recipe.data.path is None:
        text = f"{data} names no data: they were at hand in Python. Name them with --set data.path=FOLDER."
        raise typer.BadParameter(text, param_hint="RECIPE")
    return recipe


def method(full: bool, head_only: bool) -> str | None:
    """What `--full` and `--head-only` ask for."""
    if full and head_only:
        raise typer.BadParameter("--full trains everything and --head-only the head alone; give one of them.")
    return "full" if full else "head" if head_only else None


@contextmanager
def misuses(data: str | None = None) -> Generator[None]:
    """Inside, what cannot be asked for is a misuse, which ends the program with 2; so are data that are not there.

    `data` is what was named on the command line, if the data are opened inside.
    """
    try:
        with nullcontext() if data is None or is_recipe(data) else data_options.there(data):
            yield
    except RecipeError as error:
        raise typer.BadParameter(str(error)) from error


def _existing(path: str) -> str:
    if not Path(path).is_file():
        raise typer.BadParameter(f"There is no recipe {path}.", param_hint="RECIPE")
    return path
