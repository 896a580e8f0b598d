"""Who was taken for whom, as a table that can be read with two classes and with a hundred and fifty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lumora.training.report import telling

_WITH_NUMBERS = 16
"""Up to so many classes, cells hold numbers."""
_ALL = 150
_CHOSEN = 60
"""Of more than all, the classes with most mistakes."""
_PAIRS = 10
LEVELS = 9
"""Shades of a cell."""


@dataclass(frozen=True)
class Cell:
    """How often one class was taken for another."""

    count: int
    share: float
    """Of all that is of the row's class."""
    level: int
    """Its shade, from 0 to `LEVELS`."""
    right: bool
    told: str


@dataclass(frozen=True)
class Row:
    """What was said of one class."""

    name: str
    total: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Pair:
    """A class that was taken for another."""

    meant: str
    said: str
    count: int
    share: float


@dataclass(frozen=True)
class Matrix:
    """The whole table."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    dense: bool
    """Whether the cells are too many to hold numbers."""
    classes: int
    """How many there are, of which those shown are the ones with most mistakes."""
    pairs: tuple[Pair, ...]
    """The classes that were taken for others most often."""


def matrix_of(counts: Tensor, names: Sequence[str]) -> Matrix:
    """The table of counts (K, K): rows are what it was, columns what was said."""
    chosen = _chosen(counts)
    totals = counts.sum(1).tolist()
    part = counts[chosen][:, chosen].tolist()
    rows = tuple(
        Row(names[i], totals[i], tuple(_cell(n, totals[i], i == j) for j, n in zip(chosen, line, strict=True)))
        for i, line in zip(chosen, part, strict=True)
    )
    return Matrix(
        names=tuple(names[i] for i in chosen),
        rows=rows,
        dense=len(chosen) > _WITH_NUMBERS,
        classes=len(names),
        pairs=_pairs(counts, names, totals),
    )


def _chosen(counts: Tensor) -> list[int]:
    """The classes that are shown, in their order."""
    if len(counts) <= _ALL:
        return list(range(len(counts)))
    mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    return sorted(mistakes.argsort(descending=True, stable=True)[:_CHOSEN].tolist())


def _cell(count: int, total: int, right: bool) -> Cell:
    share = count / max(total, 1)
    # Mistakes are rarer than right answers: their shades begin earlier.
    level = math.ceil(LEVELS * (share if right else math.sqrt(share)))
    return Cell(count, share, level, right, telling.percent(share))


def _pairs(counts: Tensor, names: Sequence[str], totals: Sequence[int]) -> tuple[Pair, ...]:
    wrong = counts.clone()
    wrong.fill_diagonal_(0)
    flat = wrong.flatten()
    most = flat.topk(min(_PAIRS, flat.numel()))
    places = [(int(place) // len(names), int(place) % len(names)) for place in most.indices]
    found = zip(places, (int(n) for n in torch.atleast_1d(most.values)), strict=True)
    return tuple(Pair(names[i], names[j], n, n / totals[i]) for (i, j), n in found if n)
