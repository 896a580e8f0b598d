"""From the labels written in the data to the ids of classes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from lumora.data.label_files import LabelList
from lumora.data.labels import Labels, listed, same_text
from lumora.data.layouts.base import Found, Item, RawLabel, Wishes
from lumora.data.sample import Target
from lumora.errors import DataError


def classes(found: Found, wishes: Wishes) -> tuple[Labels, Mapping[str | int, int]]:
    """The labels of a classification, and the id of each label that the data write."""
    written = {label for items in found.parts.values() for item in items for label in _each(item.label)}
    given = wishes.labels or found.labels
    if given is None:
        return _from_data(written)
    return given.labels, _matched(written, given)


def target(item: Item, ids: Mapping[str | int, int], several: bool) -> Target:
    """The id or ids of an item's label."""
    if several:
        return tuple(sorted({ids[label] for label in _each(item.label)}))
    labels = _each(item.label)
    if len(labels) > 1:
        raise DataError(f"{item.key} has several labels ({listed(labels)}); read them with task='multilabel'.")
    return ids[labels[0]] if labels else None


def check(labels: Labels, splits: Mapping[str | None, Sequence[Target]]) -> list[str]:
    """Notes on classes that are rare or missing; an error if there is nothing to tell apart."""
    counts = {split: _counted(targets, len(labels)) for split, targets in splits.items()}
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    if not any(total):
        raise DataError("No picture has a label. Are they test pictures? Give the folder or table that has the labels.")
    notes: list[str] = []
    if empty := [name for name, count in zip(labels.names, total, strict=True) if not count]:
        notes.append(f"No picture shows {listed(empty)}; add some, or leave the label out of the list.")
    for split, of in counts.items():
        if split is None or not sum(of):
            continue
        missing = [name for name, here, all_ in zip(labels.names, of, total, strict=True) if all_ and not here]
        if missing and split == "train":
            notes.append(
                f"No picture of the split train shows {listed(missing)}, so it cannot be learnt; move some there."
            )
        elif missing:
            notes.append(
                f"No picture of the split {split} shows {listed(missing)}, so it is not measured; move some there."
            )
    unlabelled = sum(target is None for targets in splits.values() for target in targets)
    if unlabelled:
        notes.append(f"{unlabelled:,} pictures have no label; they are kept, and nothing is learnt from them.")
    return notes


def _counted(targets: Sequence[Target], size: int) -> list[int]:
    counts = [0] * size
    for each in targets:
        for i in (each,) if isinstance(each, int) else each or ():
            counts[i] += 1
    return counts


def _from_data(written: set[str | int]) -> tuple[Labels, Mapping[str | int, int]]:
    """The labels that occur, in the alphabet's order; numbers by size."""
    numbers = all(isinstance(label, int) or label.isdecimal() for label in written)
    order = sorted(written, key=int) if numbers else sorted(written, key=str)
    names = list(dict.fromkeys(same_text(str(label)) for label in order))
    index = {name: i for i, name in enumerate(names)}
    return Labels(tuple(names)), {label: index[same_text(str(label))] for label in written}


def _matched(written: Iterable[str | int], given: LabelList) -> Mapping[str | int, int]:
    """The id of each written label in a list; numbers are ids, unless the list says which number is which."""
    ids: dict[str | int, int] = {}
    unknown: list[str | int] = []
    labels = given.labels
    numbers = {number: i for i, number in enumerate(given.values or range(len(labels)))}
    for label in written:
        text = same_text(str(label))
        if text in labels.names:
            ids[label] = labels.names.index(text)
        elif (isinstance(label, int) or label.isdecimal()) and int(label) in numbers:
            ids[label] = numbers[int(label)]
        else:
            unknown.append(label)
    if unknown:
        are = "label in the data is" if len(unknown) == 1 else "labels in the data are"
        raise DataError(
            f"{len(unknown):,} {are} not among the {len(labels):,} of {given.where}: "
            f"{listed(sorted(unknown, key=str))}. {_advice(unknown, labels)}"
        )
    return ids


def _advice(unknown: Sequence[str | int], labels: Labels) -> str:
    numbers = [int(label) for label in unknown if isinstance(label, int) or label.isdecimal()]
    if numbers == [len(labels)]:
        return "Do the numbers start at 1? Give labels={1: …, 2: …} with the number of each."
    if numbers:
        return f"The list has the ids 0 to {len(labels) - 1}; add the missing labels."
    first = str(sorted(unknown, key=str)[0])
    near = difflib.get_close_matches(first, labels.names, n=1, cutoff=0.5)
    hint = f"For {first!r}, did you mean {near[0]!r}?" if near else f"The list has {listed(labels.names, 4)}."
    return f"{hint} Add what is missing to it, or leave out the samples that have other labels."


def _each(label: RawLabel) -> tuple[str | int, ...]:
    if label is None:
        return ()
    return label if isinstance(label, tuple) else (label,)
