"""How a value is chosen: by what was asked, else by the key's rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lumora.training.facts import Facts


@dataclass(frozen=True)
class Origin:
    """Where a value comes from."""

    how: Literal["default", "detected", "asked"]
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


def always(value: Any, why: str) -> Rule:
    """The rule that gives this value whatever is known."""
    return lambda _: default(value, why)
