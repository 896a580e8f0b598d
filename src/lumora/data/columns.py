"""Which column of a table is the picture, which the label, which the mask."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from lumora.data.labels import listed
from lumora.data.listing import PICTURES
from lumora.errors import LayoutError

_PICTURE = (
    "file_name filename image img picture photo path image_path img_path filepath file_path file image_id id".split()
)
_LABEL = (
    "label labels class classes category categories target targets tags tag species class_name label_name fine_label y"
).split()
_MASK = (
    "mask masks annotation segmentation segmentation_mask mask_path mask_file label_path annotation_path gt seg".split()
)
_SPLIT = "split subset set partition fold".split()


@dataclass(frozen=True)
class Roles:
    """The columns of a table by what they hold."""

    picture: str
    label: str | None = None
    flags: tuple[str, ...] = ()
    """Columns of 0 and 1, one for each label."""
    mask: str | None = None
    split: str | None = None


def wanted(columns: Mapping[str, str | Sequence[str]], there: Sequence[str], where: str) -> dict[str, Any]:
    """The roles that a caller names, checked against the columns that are there."""
    for names in columns.values():
        for name in [names] if isinstance(names, str) else names:
            if name not in there:
                near = difflib.get_close_matches(name, there, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {listed(there)}."
                raise LayoutError(f"{where} has no column {name!r}; {hint}")
    return dict(columns)


def roles(
    columns: Mapping[str, Sequence[Any]], named: Mapping[str, Any], is_picture: Callable[[str, Any], bool]
) -> Roles | None:
    """What each column holds: as named, else by its name, else by its values; None if no column holds pictures."""
    rest = [name for name in columns if name not in _flat(named)]
    picture = named.get("picture") or _picture_column(columns, rest, is_picture)
    if picture is None:
        return None
    rest = [name for name in rest if name != picture]
    split = named.get("split") or _by_name(rest, _SPLIT, lambda name: _all_short(columns[name]))
    mask = named.get("mask") or _by_name(rest, (*_MASK, *_LABEL), lambda name: _are_paths(columns[name]))
    rest = [name for name in rest if name not in (split, mask)]
    label = named.get("label")
    if isinstance(label, str):
        return Roles(picture, label, (), mask, split)
    if label is not None:
        return Roles(picture, None, tuple(label), mask, split)
    label = _by_name(rest, _LABEL, lambda _: True)
    if label is None:
        flags = tuple(name for name in rest if _are_flags(columns[name]))
        if len(flags) >= 2:
            return Roles(picture, None, flags, mask, split)
        others = [name for name in rest if not _are_numbers(columns[name])]
        label = others[0] if len(others) == 1 else None
    return Roles(picture, label, (), mask, split)


def _picture_column(
    columns: Mapping[str, Sequence[Any]], rest: Sequence[str], is_picture: Callable[[str, Any], bool]
) -> str | None:
    found = _by_name(rest, _PICTURE, lambda name: _first(columns[name], lambda value: is_picture(name, value)))
    if found is not None:
        return found
    return next((name for name in rest if _are_paths(columns[name]) and is_picture(name, columns[name][0])), None)


def _by_name(there: Sequence[str], names: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    of = {name.lower().replace(" ", "_"): name for name in there}
    return next((of[name] for name in names if name in of and fits(of[name])), None)


def _flat(named: Mapping[str, Any]) -> set[str]:
    return {name for names in named.values() for name in ([names] if isinstance(names, str) else names)}


def _first(values: Sequence[Any], test: Callable[[Any], bool]) -> bool:
    return bool(values) and any(test(value) for value in values[:3] if value)


def _are_paths(values: Sequence[Any]) -> bool:
    return _first(values, lambda value: isinstance(value, str) and PurePath(value).suffix.lower() in PICTURES)


def _all_short(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str | int) for value in values[:100])


def _are_flags(values: Sequence[Any]) -> bool:
    return bool(values) and {str(value) for value in values} <= {"0", "1", "0.0", "1.0", "True", "False"}


def _are_numbers(values: Sequence[Any]) -> bool:
    try:
        [float(value) for value in values[:100]]
    except (TypeError, ValueError):
        return False
    return True
