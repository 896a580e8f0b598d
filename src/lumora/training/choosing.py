"""From what was asked for to a recipe without gaps, with the reason for every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lumora.training.facts import BaseFacts, Facts, Machine
from lumora.training.recipe import Recipe, asked_of, complete
from lumora.training.rules import RULES
from lumora.training.rules.base import Choosing, Origin, Rule, detected
from lumora.training.rules.fitting import misfits
from lumora.training.schema.contradictions import contradictions
from lumora.training.schema.keys import keys
from lumora.training.schema.telling import raise_all

__all__ = ["BaseFacts", "Chosen", "Facts", "Machine", "Origin", "explained", "resolve"]


@dataclass(frozen=True)
class Chosen:
    """A recipe without gaps, and where each of its values comes from."""

    recipe: Recipe
    origins: Mapping[str, Origin]


def resolve(asked: Recipe, facts: Facts, inherited: Recipe | None = None) -> Chosen:
    """Fill the gaps of a recipe by the rules in `lumora.training.rules`; what was asked for always stays.

    One error tells everything that was asked for and does not fit the data, the base or the machine.

    Args:
        asked: the recipe with gaps.
        facts: what is known of data, base and machine.
        inherited: what is taken over from the bundle of `train.start_from`, in place of those rules.
    """
    wishes = asked_of(asked)
    problems = [*contradictions({"data.task": facts.task, **wishes}), *misfits(wishes, facts)]
    raise_all(problems)
    taken_over = {} if inherited is None else {key: _as_before(value) for key, value in asked_of(inherited).items()}
    choosing = Choosing(facts, wishes, {**RULES, **taken_over})
    values = {key: choosing[key] for key in keys()}
    return Chosen(complete(values), MappingProxyType({key: choosing.origin(key) for key in keys()}))


def _as_before(value: Any) -> Rule:
    return lambda known: detected(value, f"as in {known['train.start_from']}")


def explained(chosen: Chosen) -> list[tuple[str, Any, str, str]]:
    """Every key with its value, how that was found ("asked", "detected", "default") and why, in the recipe's order."""
    values = asked_of(chosen.recipe)
    return [(key, values[key], origin.how, origin.why) for key, origin in chosen.origins.items()]
