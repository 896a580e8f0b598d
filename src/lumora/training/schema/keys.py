"""Every key of a recipe by its dotted name: what it takes and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from lumora.training.schema.kinds import Null, choices_of, takes_list, words_of
from lumora.training.schema.sections import Base, Data, Lora, Loss, Pictures, Run, Section, Train

SECTIONS: Mapping[str, type[Section]] = MappingProxyType(
    {
        "data": Data,
        "base": Base,
        "lora": Lora,
        "train": Train,
        "pictures": Pictures,
        "loss": Loss,
        "run": Run,
    }
)


@dataclass(frozen=True)
class Key:
    """One choice of a recipe."""

    name: str
    """As `lora.r`."""
    section: str
    field: str
    takes: str
    """What it may be, in words."""
    null: str | None
    """What null chooses; None where null leaves the choice to us."""
    description: str
    takes_list: bool
    """Whether it may be a list."""
    choices: tuple[str, ...]
    """The texts that it may be, where these are few."""

    @property
    def words(self) -> str:
        """What it may be, with what null means."""
        return self.takes if self.null is None else f"{self.takes}, or null ({self.null})"


@cache
def keys() -> Mapping[str, Key]:
    """All keys, in the order in which they are written.

    >>> keys()["train.clip"].words
    'a number above 0, or null (as they are)'
    """
    found: dict[str, Key] = {}
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            null = next((mark.means for mark in field.metadata if isinstance(mark, Null)), None)
            found[f"{section}.{name}"] = Key(
                name=f"{section}.{name}",
                section=section,
                field=name,
                takes=words_of(field.annotation),
                null=null,
                description=field.description or "",
                takes_list=takes_list(field.annotation),
                choices=choices_of(field.annotation),
            )
    return MappingProxyType(found)
