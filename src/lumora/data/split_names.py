"""The names under which people keep the parts of a dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from lumora.data.labels import listed
from lumora.data.listing import Folder

K = TypeVar("K", str, str | None)
T = TypeVar("T")

SPLITS = ("train", "validation", "test")

_SPELLINGS = {
    "train": "train training trn tr fit",
    "validation": "validation validate validating valid val vali dev devel development eval evaluation",
    "test": "test testing tst te holdout",
}
_KNOWN = {word: split for split, words in _SPELLINGS.items() for word in words.split()}


def split_of(name: str) -> str | None:
    """The split that a name means, or None.

    >>> [split_of(n) for n in ("Training", "val2017", "test_set", "valid", "cats")]
    ['train', 'validation', 'test', 'validation', None]
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower().replace("hold-out", "holdout")) if word]
    words = [word for word in words if word not in ("set", "data", "split", "dataset", "images", "imgs", "img")]
    if len(words) != 1:
        return None
    word = re.sub(r"(set|data)$", "", words[0])
    return _KNOWN.get(word)


def split_folders(folder: Folder) -> tuple[dict[str, list[Folder]], list[str]]:
    """The folders in a folder that are splits, and notes; none unless all folders there are splits.

    A class may be called "train": so unless there are two different splits, a folder beside it that holds pictures and
    is no split makes all of them something else.
    """
    splits: dict[str, list[Folder]] = {}
    others: list[str] = []
    for name, inner in folder.folders.items():
        split = split_of(name)
        if split is not None:
            splits.setdefault(split, []).append(inner)
        elif inner.has_pictures():
            others.append(name)
    if others and not ("train" in splits and len(splits) > 1):
        return {}, []
    notes: list[str] = []
    if others:
        notes.append(f"Left out: {listed(others)}, which lie beside the splits and are none.")
    for split, folders in splits.items():
        if len(folders) > 1:
            notes.append(f"{listed([f.name for f in folders])} are taken together as {split}.")
    return in_order(splits), notes


def in_order(splits: Mapping[K, T]) -> dict[K, T]:
    """Train before validation before test."""
    order: dict[object, int] = {split: i for i, split in enumerate(SPLITS)}
    return dict(sorted(splits.items(), key=lambda item: order.get(item[0], -1)))
