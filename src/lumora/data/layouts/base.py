"""What every layout gives, and what it is asked with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lumora.data.content import Content
from lumora.data.label_files import LabelList
from lumora.data.reading import Limits
from lumora.data.sample import TaskName

RawLabel = str | int | tuple[str | int, ...] | None
"""A label as it is written in the data: a name or an id, or several."""


@dataclass(frozen=True)
class Item:
    """One picture with what belongs to it, before the labels have ids."""

    key: str
    content: Content
    label: RawLabel = None
    mask: Content | None = None


@dataclass(frozen=True)
class Wishes:
    """What the caller asks for; None where the data are to tell."""

    task: TaskName | None = None
    layout: str | None = None
    labels: LabelList | None = None
    ignore: tuple[int, ...] = (255,)
    reduce_labels: bool | None = None
    columns: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, "str | Sequence[str]"])
    subset: str | None = None
    limits: Limits = field(default_factory=Limits)
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    """The part of the samples that each split gets which has to be drawn; train gets the rest."""
    seed: int = 0
    near_duplicates_together: bool = True


@dataclass(frozen=True)
class Found:
    """What a layout found."""

    words: str
    """The layout in words."""
    task: TaskName
    parts: Mapping[str | None, Sequence[Item]]
    """The items of each split; all under None if the data are not divided."""
    labels: LabelList | None = None
    """The labels, if the data name them."""
    reduce_labels: bool = False
    notes: tuple[str, ...] = ()
    root: Path | None = None


@dataclass(frozen=True)
class Layout:
    """One way in which data may lie."""

    name: str
    """What `layout=` calls it."""
    looks_like: str
    """In a few words, for messages."""
    sees: Callable[[Any], bool]
    """Whether the data lie so. Reads names and the beginnings of small files, no pictures."""
    read: Callable[[Any, Wishes], Found]
    """List everything, decoding nothing."""
    files: bool = False
    """Whether a single file may lie so, and not only a folder."""
    columns: bool = False
    """Whether it has columns that a caller may name."""
