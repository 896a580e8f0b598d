"""What can be asked of a training on the command line: the options, and the recipe that they ask for."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lumora.errors import DataError, RecipeError

if TYPE_CHECKING:
    from lumora.training import Recipe

_RECIPES = (".yaml", ".yml")

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA|RECIPE",
        help="A folder, a table, an archive, a dataset's name on the Hub; or a recipe (.yaml) that names them.",
        show_default=False,
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="NAME", help="The model to adapt; lumora/efficientnet-lite0 if not said."),
]
Task = Annotated[
    Literal["auto", "classification", "multilabel", "segmentation"] | None,
    typer.Option("--task", help="What is to be learnt, if the data leave a choice.", show_default=False),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the recipe, such as lora.r=8; may be repeated."),
]
Full = Annotated[bool, typer.Option("--full", help="Train the whole model, without adapters.")]
HeadOnly = Annotated[bool, typer.Option("--head-only", help="Train the head alone.")]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, help="How often every picture is seen.")]
Layout = Annotated[
    str | None,
    typer.Option("--layout", metavar="NAME", help="How the data lie, if they look like several layouts."),
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="FILE|NAMES",
        help="A file that lists the labels, voc, ade20k, or names with commas between them.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Another seed, another training.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be read.")]


def settings(
    base: str | None = None,
    task: str | None = None,
    setting: Sequence[str] | None = None,
    full: bool = False,
    head_only: bool = False,
    epochs: int | None = None,
    layout: str | None = None,
    labels: str | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """The keys of a recipe that options ask for, and their values; a key that is asked for twice is a misuse."""
    from lumora.training import split_settings

    if full and head_only:
        raise typer.BadParameter("--full trains everything and --head-only the head alone; give one of them.")
    options = {
        "--base": ("base.name", base),
        "--task": ("data.task", task),
        "--full": ("train.method", "full" if full else None),
        "--head-only": ("train.method", "head" if head_only else None),
        "--epochs": ("train.epochs", epochs),
        "--layout": ("data.layout", layout),
        "--labels": ("data.labels", _labels(labels)),
        "--seed": ("train.seed", seed),
        "--skip-bad": ("data.skip_bad", True if skip_bad else None),
    }
    with misuses():
        found: dict[str, Any] = dict(split_settings(setting or ()))
    for option, (key, value) in options.items():
        if value is None:
            continue
        if key in found:
            raise typer.BadParameter(f"{key} is said twice, by {option} and by --set {key}={found[key]}.")
        found[key] = value
    return found


def recipe(data: str, asked: Mapping[str, Any]) -> Recipe:
    """What is asked for: these settings for these data, or on top of the recipe in this file."""
    from lumora.training import parse_asked, read_recipe

    path = Path(data).expanduser()
    if path.suffix.lower() not in _RECIPES:
        if "data.path" in asked:
            raise typer.BadParameter(f"The data are named twice, as {data} and by --set data.path={asked['data.path']}.")
        with misuses():
            return parse_asked({**asked, "data.path": path if path.exists() else data})
    if not path.is_file():
        raise typer.BadParameter(f"There is no recipe {data}.", param_hint="RECIPE")
    with misuses():
        made = parse_asked(asked, onto=read_recipe(path))
    if made.data.path is None:
        raise typer.BadParameter(
            f"The recipe {data} names no data; add them with --set data.path=FOLDER.", param_hint="RECIPE"
        )
    return made


@contextmanager
def misuses(data: str | None = None) -> Generator[None]:
    """Inside, what cannot be asked for is a misuse, after which the program ends with 2; so are data that are not there.

    `data` is where the pictures lie, if they are opened inside.
    """
    try:
        yield
    except RecipeError as error:
        raise typer.BadParameter(str(error)) from error
    except DataError as error:
        if data is None or Path(data).expanduser().exists():
            raise
        raise typer.BadParameter(str(error), param_hint="DATA") from error


def _labels(text: str | None) -> list[str] | str | None:
    return [name.strip() for name in text.split(",")] if text and "," in text else text
