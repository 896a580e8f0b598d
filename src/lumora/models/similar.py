"""Hints for names that do not exist: the most similar ones that do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], prefix: str = "", cutoff: float = 0.5) -> str:
    """A hint with the most similar of the known names, or nothing.

    >>> nearest("resnet5", ["resnet50", "vit_b_16"], "timm/")
    ' (did you mean timm/resnet50?)'
    """
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=cutoff)
    return f" (did you mean {', '.join(prefix + n for n in near)}?)" if near else ""


def in_libraries(word: str, known_too: Iterable[str] = ()) -> str:
    """The same over all names that timm and torchvision know, and some more. Imports both, which takes seconds."""
    import timm
    from torchvision import models

    known = {name: f"torchvision/{name}" for name in models.list_models()}
    known |= {name: f"timm/{name}" for name in timm.list_models()}
    known |= {name: name for name in known_too}
    near = difflib.get_close_matches(word, list(known), n=3)
    return f" (did you mean {', '.join(known[n] for n in near)}?)" if near else ""
