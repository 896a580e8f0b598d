"""Values and problems in sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from lumora.errors import RecipeError


def told(value: object) -> str:
    """A value as people write it, shortened where it is long.

    >>> told(None), told(True), told("a"), told((1, 2))
    ('null', 'true', "'a'", '[1, 2]')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def raise_all(problems: Sequence[str], what: str = "recipe") -> None:
    """Raise one error that tells all problems, if there are any."""
    sentences = [p if p.endswith((".", "?")) else f"{p}." for p in dict.fromkeys(problems)]
    if len(sentences) == 1:
        raise RecipeError(f"The {what} cannot be used: {sentences[0]}")
    if sentences:
        said = "\n".join(f"- {sentence}" for sentence in sentences)
        raise RecipeError(f"The {what} cannot be used, for {len(sentences)} reasons:\n{said}")
