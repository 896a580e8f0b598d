"""What a caller asks for, checked before anything is read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from lumora.data.label_files import label_list
from lumora.data.labels import IGNORE, Labels
from lumora.data.layouts import NAMED, Wishes
from lumora.data.reading import Limits
from lumora.data.sample import TaskName
from lumora.errors import DataError, LayoutError

T = TypeVar("T")

_ROLES = ("picture", "label", "mask", "split")


def wishes_of(
    *,
    task: TaskName | None = None,
    layout: str | None = None,
    labels: Labels | Sequence[str] | Mapping[Any, Any] | str | Path | None = None,
    ignore: int | Sequence[int] = IGNORE,
    reduce_labels: bool | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    subset: str | None = None,
    limits: Limits | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    near_duplicates_together: bool = True,
) -> Wishes:
    """What the arguments of `open_source` ask for. One error tells everything that is wrong with them."""
    problems = _Problems()
    wishes = Wishes(
        task=problems.met(_task, task),
        layout=problems.met(_layout, layout),
        labels=None if labels is None else problems.met(label_list, labels),
        ignore=problems.met(_ignore, ignore) or (),
        reduce_labels=problems.met(_yes_or_no, reduce_labels),
        columns=problems.met(_columns, {} if columns is None else columns) or {},
        subset=problems.met(_subset, subset),
        limits=problems.met(_limits, limits) or Limits(),
        shares=problems.met(lambda both: _shares(*both), (validation, test)) or {},
        seed=problems.met(_seed, seed) or 0,
        near_duplicates_together=near_duplicates_together,
    )
    problems.end()
    return wishes


class _Problems:
    """Errors, gathered to be told together."""

    def __init__(self) -> None:
        self.errors: list[DataError] = []

    def met(self, check: Callable[[Any], T], value: object) -> T | None:
        """What a check makes of a value; None where it refuses it."""
        try:
            return check(value)
        except DataError as error:
            self.errors.append(error)
            return None

    def end(self) -> None:
        """Raise what there is."""
        if len(self.errors) > 1:
            said = "\n".join(f"- {error}" for error in self.errors)
            raise DataError(f"{len(self.errors)} arguments cannot be used as they are:\n{said}")
        for error in self.errors:
            raise error


def _task(task: Any) -> TaskName | None:
    if task is not None and task not in get_args(TaskName):
        raise DataError(f"task is {task!r}; it may be {', '.join(map(repr, get_args(TaskName)))}.")
    return task


def _layout(name: Any) -> str | None:
    if name is not None and name not in list(NAMED):
        near = difflib.get_close_matches(str(name), NAMED, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise LayoutError(f"There is no layout {name!r}.{hint} There are {', '.join(map(repr, NAMED))}.")
    return name


def _ignore(ignore: Any) -> tuple[int, ...]:
    numbers = [ignore] if isinstance(ignore, str) or not isinstance(ignore, Sequence) else cast("Sequence[Any]", ignore)
    if not all(_is_whole(number) for number in numbers):
        raise DataError(f"ignore is {ignore!r}; give the number in masks that counts nowhere, or a list of such.")
    return tuple(int(number) for number in numbers)


def _yes_or_no(reduce: Any) -> bool | None:
    if reduce not in (None, True, False):
        raise DataError(f"reduce_labels is {reduce!r}; it may be True or False, and None leaves it to the layout.")
    return None if reduce is None else bool(reduce)


def _columns(columns: Any) -> Mapping[str, str | Sequence[str]]:
    if not isinstance(columns, Mapping):
        raise LayoutError(f"columns is {columns!r}; give what columns hold what: {{'picture': …, 'label': …}}.")
    named = cast("Mapping[Any, Any]", columns)
    if unknown := [role for role in named if role not in _ROLES]:
        roles = ", ".join(map(repr, _ROLES[:-1])) + f" and {_ROLES[-1]!r}"
        raise LayoutError(f"columns names {', '.join(map(repr, unknown))}; it may name {roles}.")
    for role, names in named.items():
        if not all(isinstance(name, str) for name in _each(names)) or (role != "label" and not isinstance(names, str)):
            several = ", or of several columns of 0 and 1" if role == "label" else ""
            raise LayoutError(f"columns says {role!r} is {names!r}; give the heading of a column{several}.")
    return named


def _each(names: Any) -> Iterator[object]:
    yield from [names] if isinstance(names, str) or not isinstance(names, Sequence) else cast("Sequence[Any]", names)


def _subset(subset: Any) -> str | None:
    if subset is not None and not isinstance(subset, str):
        raise DataError(f"subset is {subset!r}; give the name of a subset of a dataset of the Hub.")
    return subset


def _limits(limits: Any) -> Limits | None:
    if limits is not None and not isinstance(limits, Limits):
        raise DataError(f"limits is {limits!r}; give Limits(pixels=…), the most pixels of a picture.")
    return limits


def _shares(validation: Any, test: Any) -> Mapping[str, float]:
    shares = {"validation": validation, "test": test}
    are_numbers = all(not isinstance(share, bool) and isinstance(share, Real) for share in shares.values())
    if not are_numbers or not all(0 <= share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise DataError(
            f"validation={validation} and test={test} leave nothing to learn from; give parts from 0 to 1, together "
            "below 1."
        )
    return {split: share for split, share in shares.items() if share > 0}


def _seed(seed: Any) -> int:
    if not _is_whole(seed):
        raise DataError(f"seed is {seed!r}; give a whole number.")
    return seed


def _is_whole(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)
