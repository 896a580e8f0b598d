"""How every key of a recipe is chosen when nothing is said: one small rule each, in one table."""

from collections.abc import Mapping
from types import MappingProxyType

from lumora.training.rules import data, model, pictures, running, train
from lumora.training.rules.base import Rule

RULES: Mapping[str, Rule] = MappingProxyType(
    {**data.RULES, **model.RULES, **train.RULES, **pictures.RULES, **running.RULES}
)
"""The rule of every key."""

__all__ = ["RULES"]
