"""How the names in a configuration mean the modules of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TypeVar

T = TypeVar("T")


def ends_with(path: str, entry: str) -> bool:
    """Whether a module's path is `entry` or ends with it after a dot."""
    return path == entry or path.endswith("." + entry)


def is_inside(path: str, owner: str) -> bool:
    """Whether a path is that of a module or of something in it."""
    return path == owner or path.startswith(owner + ".")


def is_inside_any(path: str, owners: Iterable[str]) -> bool:
    """Whether a path is that of one of several modules or of something in one."""
    return any(is_inside(path, owner) for owner in owners)


def matches(path: str, wanted: Collection[str] | str | None) -> bool:
    r"""Whether a path is meant by a list of names, or matched whole by a regular expression.

    >>> matches("layer.0.query", ["query"]), matches("layer.0.query", r"layer\.\d+\.que")
    (True, False)
    """
    if not wanted:
        return False
    if isinstance(wanted, str):
        return re.fullmatch(wanted, path) is not None
    return any(ends_with(path, entry) for entry in wanted)


def pattern_value(path: str, pattern: dict[str, T], default: T) -> T:
    """The value of the first key that matches as a path ending or a regular expression, or `default`."""
    return next((value for key, value in pattern.items() if pattern_matches(key, path)), default)


def pattern_matches(key: str, path: str) -> bool:
    """Whether a key of `rank_pattern` or `alpha_pattern` means a path."""
    return re.match(rf"(.*\.)?({key})$", path) is not None


def block_index(path: str, layers_pattern: Collection[str] | str | None) -> int | None:
    """The index of the block that a module lies in, or None.

    >>> block_index("vit.layers.3.mlp.fc1", None), block_index("a.blocks.2.x", ["layers"])
    (3, None)
    """
    names = [layers_pattern] if isinstance(layers_pattern, str) else list(layers_pattern or [])
    patterns = [rf"(?:^|.*?\.){name}\.(\d+)\." for name in names] or [r".*?\.[^.]*\.(\d+)\."]
    for pattern in patterns:
        if found := re.match(pattern, path):
            return int(found.group(1))
    return None


def exactly(paths: Collection[str], modules: Collection[str]) -> set[str] | str:
    """What to write into `target_modules` for exactly these paths among a model's: as a list they may match more.

    >>> sorted(exactly(["a.0", "a.1"], ["a", "a.0", "a.1"]))
    ['a.0', 'a.1']
    >>> exactly(["0"], ["0", "1", "1.0"])
    '0'
    """
    entries = set(paths)
    if all(path in entries or not matches(path, entries) for path in modules):
        return entries
    return "|".join(re.escape(path) for path in sorted(entries))
