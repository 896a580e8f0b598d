"""A base that was given as a module, and not by name."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn

from lumora.errors import CheckpointError, RecipeError
from lumora.models import Base, Preprocessing
from lumora.models.facts import of_module

_START = "module:"


@dataclass(frozen=True, eq=False)
class Ready:
    """A model of the caller's own. Trainings adapt copies of it; it stays as it is."""

    module: nn.Module
    preprocessing: Preprocessing

    @property
    def name(self) -> str:
        """What recipes call it."""
        return name_of(self.module)

    def copy(self) -> nn.Module:
        """A model to be changed."""
        return copy.deepcopy(self.module)


def name_of(module: nn.Module) -> str:
    """What recipes call a model that has no name to load it by.

    >>> name_of(nn.Linear(2, 2))
    'module:Linear'
    """
    return f"{_START}{type(module).__name__}"


def ready(
    base: str | nn.Module | None, preprocessing: Preprocessing | None, size: tuple[int, int] | None
) -> Ready | None:
    """The base, if it is a module; with what is known of its pictures, unless that is given, at the size asked for."""
    if not isinstance(base, nn.Module):
        if preprocessing is not None:
            raise RecipeError(
                "A preprocessing is given for a base that was given as a module; one that is loaded by name brings its "
                "own."
            )
        return None
    if preprocessing is None:
        preprocessing = of_module(base).preprocessing
    if size is not None and size != preprocessing.usual_size:
        preprocessing = preprocessing.with_size(size)
    return Ready(base, preprocessing)


def check_given(name: str | None, given: Ready | None) -> None:
    """An error if the base that a recipe names was to be given and was not, or is another."""
    if given is None and name is not None and name.startswith(_START):
        raise RecipeError(
            f"This recipe adapts a {name.removeprefix(_START)} that was given as a module; give it again as it was "
            "before the training: base=model"
        )
    if given is not None and name != given.name:
        raise RecipeError(f"This recipe adapts {name}, but the base that was given is a {type(given.module).__name__}.")


def identity(base: Base) -> dict[str, Any]:
    """By what a base is known again: its weights and what is done to its pictures; plain values."""
    return {"name": base.name, "fingerprint": base.fingerprint, "preprocessing": base.preprocessing.to_dict()}


def check_identity(saved: object, base: Base) -> None:
    """An error if a training began with another base than this one."""
    now = identity(base)
    if not isinstance(saved, dict) or saved == now:
        return
    if saved.get("fingerprint") != now["fingerprint"]:
        raise CheckpointError(
            f"The run began with weights of {base.name} that have the fingerprint {saved.get('fingerprint')}; those "
            f"here have {now['fingerprint']}. Give the base as it was before the training, or start a new run."
        )
    raise CheckpointError(
        f"The run began with another preprocessing of {base.name} than what is here: give the same one again, or start "
        "a new run."
    )
