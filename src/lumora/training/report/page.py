"""The page itself: what was found, put into the templates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lumora.training.report import telling
from lumora.training.report.matrix import LEVELS

_PAGE = "page.html"
_MANY = 30
"""Longer tables of classes are scrolled in a window of their own."""


def render(content: Mapping[str, Any]) -> str:
    """The whole page. Whatever names hold, they are text in it and no markup."""
    template = environment("lumora.training.report").get_template(_PAGE)
    return template.render({"levels": LEVELS, "many": _MANY, **content})


@cache
def environment(package: str) -> Environment:
    """Where the templates of a package become HTML, with the same words for numbers everywhere."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(  # pyright: ignore[reportUnknownMemberType]
        percent=telling.percent,
        number=telling.number,
        title_of=telling.title,
        duration=telling.duration,
        counted=telling.count,
        bytes=telling.size,
    )
    return made
