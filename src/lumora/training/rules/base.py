"""How a value is chosen: by what was asked, else by the key's rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lumora.training.facts import Facts

How = Literal["default", "detected", "asked"]


@dataclass(frozen=True)
class Origin:
    """Where a value comes from."""

    how: How
    """By itself, by what data, base and machine are like, or by what somebody asked for."""
    why: str
    """The reason, in a few words."""


Choice = tuple[Any, Origin]


class Choosing:
    """What is known while a recipe is filled: facts, what was asked, and the value of every key.

    A rule may look at any other key; it is chosen then, if it was not yet.
    """

    def __init__(self, facts: Facts, asked: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
        self.facts = facts
        self._rules = rules
        self.asked = asked
        self._found: dict[str, Choice] = {key: (value, Origin("asked", "asked for")) for key, value in asked.items()}

    def __getitem__(self, key: str) -> Any:
        """The value of a key."""
        return self._choice(key)[0]

    def origin(self, key: str) -> Origin:
        """Where the value of a key comes from."""
        return self._choice(key)[1]

    def _choice(self, key: str) -> Choice:
        if key not in self._found:
            self._found[key] = self._rules[key](self)
        return self._found[key]


Rule = Callable[[Choosing], Choice]


def default(value: Any, why: str) -> Choice:
    """A value that does not depend on data, base or machine."""
    return value, Origin("default", why)


def detected(value: Any, why: str) -> Choice:
    """A value that follows from data, base or machine."""
    return value, Origin("detected", why)


@dataclass(frozen=True)
class always:  # noqa: N801 - it reads as a word in the tables of rules
    """The rule that gives the same value whatever is known."""

    value: Any
    why: str

    def __call__(self, known: Choosing) -> Choice:
        """The value."""
        return default(self.value, self.why)
