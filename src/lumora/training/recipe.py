"""A recipe: every choice of a training run, as one checked value that can be written to a file and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from lumora.data.durable import write_file
from lumora.errors import RecipeError
from lumora.training.schema import asked, yaml_files
from lumora.training.schema.asked import UNASKED, Values
from lumora.training.schema.contradictions import contradictions
from lumora.training.schema.keys import SECTIONS, keys
from lumora.training.schema.sections import Base, Data, Lora, Loss, Pictures, Run, Train
from lumora.training.schema.telling import raise_all, told

_HEADING = "A recipe of Lumora: every choice of a training. A key that is left out is chosen."


class Recipe(BaseModel):
    """What a training is to do. Keys that were not given are None: they are chosen by `lumora.training.choosing`.

    `parse_asked` and `read_recipe` make one and tell every problem at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Data = Field(default_factory=Data, description="where the pictures lie, and how they are read and divided")
    base: Base = Field(default_factory=Base, description="the pretrained model, and the head that it gets")
    lora: Lora = Field(default_factory=Lora, description="the adapters")
    train: Train = Field(default_factory=Train, description="how it is trained, and for how long")
    pictures: Pictures = Field(default_factory=Pictures, description="what is done to the pictures in training")
    loss: Loss = Field(default_factory=Loss, description="what training makes small")
    run: Run = Field(default_factory=Run, description="where and how it runs; nothing here decides the adapter")


def parse_asked(given: Mapping[str, Any], *, onto: Recipe | None = None) -> Recipe:
    """The recipe that asks for these values and leaves the rest open. One error tells everything that is wrong.

    Args:
        given: dotted keys and values, `{"lora.r": 8}`, or texts as they were typed, `{"lora.r": "8"}`. The text
            `"auto"` leaves a key open.
        onto: what was asked before; the new values win.

    >>> parse_asked({"lora.r": "8", "train.rate": "1e-3"}).lora.r
    8
    """
    values, problems = asked.checked(given, texts=True)
    before = asked_of(onto) if onto is not None else {}
    return _recipe_of({**before, **values}, problems)


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a YAML file. One error tells everything that is wrong with it."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise RecipeError(f"The recipe {path} cannot be read: {reason}.") from error
    return recipe_of_text(text, f"recipe {path}")


def recipe_of_text(text: str, what: str = "recipe") -> Recipe:
    """The recipe that `recipe_text` or somebody has written. One error tells everything that is wrong with it.

    >>> recipe_of_text("lora: {r: 8}").lora.r
    8
    """
    try:
        found = yaml_files.parsed(text)
    except RecipeError as error:
        raise RecipeError(f"The {what} cannot be read. {error}") from error
    if not isinstance(found, Mapping | None):
        raise RecipeError(f"The {what} holds {told(found)}; it must hold sections: {', '.join(SECTIONS)}.")
    values, problems = asked.checked(cast("Mapping[Any, Any]", found or {}), texts=False)
    return _recipe_of(values, problems, what)


def write_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write what a recipe asks for to a YAML file; the same recipe always gives the same bytes.

    The file is replaced whole, or stays as it was.
    """
    write_file(Path(path), recipe_text(recipe).encode())


def recipe_text(recipe: Recipe) -> str:
    """What a recipe asks for as YAML, with a comment above each section.

    >>> print(recipe_text(parse_asked({"lora.r": 8})))
    # A recipe of Lumora: every choice of a training. A key that is left out is chosen.
    <BLANKLINE>
    # the adapters
    lora:
      r: 8
    <BLANKLINE>
    """
    comments = {name: field.description or "" for name, field in Recipe.model_fields.items()}
    return yaml_files.document({comments[name]: {name: values} for name, values in plain(recipe).items()}, _HEADING)


def asked_of(recipe: Recipe) -> Values:
    """The keys that a recipe gives, and their values, in the order of `keys()`."""
    given: Values = {}
    for name, key in keys().items():
        section = getattr(recipe, key.section)
        value = getattr(section, key.field)
        if key.field in section.model_fields_set and (value is not None or key.null is not None):
            given[name] = value
    return given


def plain(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The keys that a recipe gives, by section, as values that JSON and YAML know.

    >>> plain(parse_asked({"lora.r": 8, "lora.targets": "query,value"}))
    {'lora': {'r': 8, 'targets': ['query', 'value']}}
    """
    sections: dict[str, dict[str, Any]] = {}
    for name, value in asked_of(recipe).items():
        section, _, field = name.partition(".")
        sections.setdefault(section, {})[field] = yaml_files.plain(value)
    return sections


def recipe_hash(recipe: Recipe) -> str:
    """A SHA-256 of everything in a recipe that decides the adapter: all but the section `run`.

    >>> quick = parse_asked({"lora.r": 8, "run.workers": 4})
    >>> recipe_hash(quick) == recipe_hash(parse_asked({"lora.r": 8}))
    True
    """
    deciding = {name: value for name, value in asked_of(recipe).items() if not name.startswith("run.")}
    return hashlib.sha256(json.dumps(deciding, separators=(",", ":")).encode()).hexdigest()


def complete(values: Mapping[str, Any]) -> Recipe:
    """The recipe of checked values, one for every key."""
    return _recipe_of(dict(values), [])


def _recipe_of(values: Values, problems: list[str], what: str = "recipe") -> Recipe:
    """A recipe of checked values; what contradicts is told together with the problems that there are already."""
    values = {name: value for name, value in values.items() if value is not UNASKED}
    raise_all([*problems, *contradictions(values)], what)
    sections: dict[str, Values] = {}
    for name, value in values.items():
        section, _, field = name.partition(".")
        sections.setdefault(section, {})[field] = value
    return Recipe.model_validate({name: SECTIONS[name](**fields) for name, fields in sections.items()})
