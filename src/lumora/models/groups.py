"""A model's many modules as a few lines: block indices are collapsed."""

from __future__ import annotations

import re

_INDEX = re.compile(r"(?:^|(?<=[_-]))\d+$")
"""The whole of a name (`layers.11`) or its end (`encoder_layer_11`)."""


def collapse(path: str) -> str:
    """A path with the indices of its blocks replaced by `*`. A last index stays: it names the module itself.

    >>> collapse("vit.layers.11.attention.q_proj"), collapse("seq.2")
    ('vit.layers.*.attention.q_proj', 'seq.2')
    """
    *blocks, own = path.split(".")
    return ".".join([*(_INDEX.sub("*", part) for part in blocks), own])
