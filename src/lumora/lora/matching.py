"""Which of a model's names a configuration means, and what is wrong with its choice, whatever the model is made of."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from lumora.lora.config import LoraConfig
from lumora.lora.names import block_index, ends_with, is_inside, matches, pattern_matches

_LISTED = 12
_SHOWN = 8

BlockOf = Callable[[str, Collection[str] | str | None], int | None]
"""The index of the block that a path lies in, given `layers_pattern`; `lumora.lora.names.block_index` is one."""


@dataclass
class Found:
    """What is wrong with a choice of names, and what is good to know of it."""

    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    nothing_found: bool = False
    """No name of the model is meant."""


def saved_paths(
    config: LoraConfig, paths: Collection[str], found: Found, *, extra: Collection[str] = (), strict: bool = True
) -> list[str]:
    """The outermost paths that `modules_to_save` means.

    Args:
        config: what is asked for.
        paths: all that the model has.
        found: where problems and notes are added.
        extra: more names, that need not exist.
        strict: treat names that match nothing as problems, not notes.
    """
    chosen: list[str] = []
    for entry in (*(config.modules_to_save or ()), *extra):
        here = [path for path in paths if ends_with(path, entry)]
        chosen += here
        if not here and entry not in extra:
            message = f"modules_to_save: nothing is called {entry!r}{nearest(entry, paths)}"
            (found.problems if strict else found.notes).append(message)
    return [p for p in dict.fromkeys(chosen) if not any(is_inside(p, other) for other in chosen if other != p)]


def kept_paths(
    config: LoraConfig, wanted: set[str] | str, paths: Iterable[str], block_of: BlockOf = block_index
) -> tuple[list[str], list[str]]:
    """The paths that `wanted` means, and those of them that `exclude_modules` and `layers_to_transform` leave."""
    meant = [path for path in paths if matches(path, wanted)]
    kept = [
        path
        for path in meant
        if not matches(path, config.exclude_modules) and _in_wanted_block(path, wanted, config, block_of)
    ]
    return meant, kept


def check_clash(wanted: set[str] | str, config: LoraConfig, found: Found) -> None:
    """Add the problem that a name is to be adapted and trained whole at once."""
    if isinstance(wanted, set) and (both := sorted(wanted & set(config.modules_to_save or ()))):
        found.problems.append(
            f"{both} stand in target_modules and in modules_to_save; a module is adapted or trained whole, not both"
        )


def check_found(
    meant: Collection[str],
    kept: Collection[str],
    wanted: set[str] | str,
    config: LoraConfig,
    found: Found,
    *,
    paths: Collection[str],
    adaptable: Iterable[str],
    strict: bool = True,
) -> None:
    """Add the problems of names that match nothing, with those that are near.

    Args:
        meant: the paths that `wanted` means.
        kept: those that `exclude_modules` and `layers_to_transform` leave.
        wanted: `target_modules` with defaults and "all-linear" spelled out.
        config: what was asked for.
        found: where problems and notes are added.
        paths: all that the model has.
        adaptable: those that could get an adapter.
        strict: treat single names that match nothing as problems, not notes.
    """
    if not meant:
        found.nothing_found = True
        entries = [wanted] if isinstance(wanted, str) else sorted(wanted)
        shown = "; ".join(f"{entry!r}{nearest(entry, paths)}" for entry in entries[:_SHOWN])
        shown = shown or repr(config.target_modules)
        found.problems.append(
            f"target_modules: nothing in the model matches {shown}. Endings in this model: {endings(adaptable)}"
        )
    elif not kept:
        found.nothing_found = True
        found.problems.append(
            f"target_modules matched {len(meant)} modules (such as {next(iter(meant))!r}), but exclude_modules or "
            "layers_to_transform leaves out every one of them"
            + ("; try layers_pattern with the name of the list of blocks" if config.layers_to_transform else "")
        )
    elif isinstance(wanted, set):
        for entry in sorted(wanted):
            if not any(ends_with(path, entry) for path in meant):
                message = f"target_modules: nothing is called {entry!r}{nearest(entry, paths)}"
                (found.problems if strict else found.notes).append(message)


def note_unused_patterns(config: LoraConfig, paths: Collection[str], found: Found) -> None:
    """Add the note that keys of `rank_pattern` or `alpha_pattern` match no target."""
    patterns: Mapping[str, object] = {**config.rank_pattern, **config.alpha_pattern}
    unused = [key for key in patterns if not any(pattern_matches(key, path) for path in paths)]
    if unused:
        found.notes.append(f"rank_pattern or alpha_pattern entries that no target matches: {sorted(unused)}")


def nearest(entry: str, paths: Iterable[str]) -> str:
    """The names that are most like an entry, as the end of a message; nothing when none is.

    >>> nearest("querry", ["layer.0.query", "layer.0.value"])
    " (did you mean 'query'?)"
    """
    names = {path.rpartition(".")[2] for path in paths} | {path for path in paths if path.count(".") < 2}
    near = difflib.get_close_matches(entry.rpartition(".")[2], sorted(names), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(map(repr, near))}?)" if near else ""


def endings(paths: Iterable[str]) -> str:
    """The last names of paths, the most frequent first.

    >>> endings(["a.query", "b.query", "b.value"])
    'query (2), value (1)'
    """
    counts: dict[str, int] = {}
    for path in paths:
        name = path.rpartition(".")[2]
        counts[name] = counts.get(name, 0) + 1
    names = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(f"{name} ({counts[name]})" for name in names[:_LISTED]) or "none that can be adapted"


def _in_wanted_block(path: str, wanted: set[str] | str, config: LoraConfig, block_of: BlockOf) -> bool:
    indices = config.layers_to_transform
    if indices is None or (isinstance(wanted, set) and path in wanted):  # a whole path means that very module
        return True
    return block_of(path, config.layers_pattern) in ([indices] if isinstance(indices, int) else indices)
