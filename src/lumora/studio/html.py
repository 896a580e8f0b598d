"""Pieces of the page that are more than a form: templates with what was found put in."""

from __future__ import annotations

from typing import Any

from lumora.training.report.matrix import LEVELS
from lumora.training.report.page import environment


def render(template: str, **content: Any) -> str:
    """A piece of the page. Whatever names hold, they are text in it and no markup."""
    text = environment("lumora.studio").get_template(f"{template}.html").render(levels=LEVELS, **content)
    return sendable(text)


def sendable(text: str) -> str:
    """A text as it can be sent to the page: names of files and classes need not be text."""
    return text.encode("utf-8", "replace").decode()


def notice(text: str, *, bad: bool = False) -> str:
    """A sentence that is to be noticed; of an error if it is `bad`. Nothing for an empty text."""
    return render("notice", text=text, bad=bad) if text else ""
