"""Show the examples in docstrings as code: `>>>` lines go into a fence."""

from __future__ import annotations

from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Used by mkdocstrings while it reads the package; see `mkdocs.yml`."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change what will be shown of one object."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Put fences around every paragraph that starts with `>>>`."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        f"```pycon\n{p.rstrip()}\n```" if p.lstrip().startswith(">>> ") else p
        for p in paragraphs
    )
