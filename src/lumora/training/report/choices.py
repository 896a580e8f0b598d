"""The recipe as a table: every choice, where it comes from, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lumora.training.recipe import Recipe, plain
from lumora.training.rules.base import Origin
from lumora.training.schema.keys import keys
from lumora.training.schema.yaml_files import written

_LONGEST = 120


@dataclass(frozen=True)
class Choice:
    """One value."""

    key: str
    value: str
    """As a recipe has it."""
    how: str
    """"asked", "detected", "default", or nothing where that is not known."""
    why: str
    meaning: str
    """What the key is."""


@dataclass(frozen=True)
class Section:
    """Choices that belong together."""

    name: str
    meaning: str
    choices: tuple[Choice, ...]


def sections(recipe: Recipe, origins: Mapping[str, Origin]) -> list[Section]:
    """Every section of a recipe with its choices."""
    described = {name: field.description or "" for name, field in Recipe.model_fields.items()}
    return [
        Section(
            section,
            described[section],
            tuple(_choice(f"{section}.{field}", value, origins) for field, value in values.items()),
        )
        for section, values in plain(recipe).items()
    ]


def _choice(key: str, value: object, origins: Mapping[str, Origin]) -> Choice:
    origin = origins.get(key)
    text = written(value)
    return Choice(
        key,
        text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…",
        origin.how if origin else "",
        origin.why if origin else "",
        keys()[key].description,
    )
