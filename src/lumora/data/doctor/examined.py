"""All that the checks look at: the records, and the facts of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lumora.data.doctor.facts import Facts, MaskFacts
from lumora.data.doctor.records import Record, Records, name_of
from lumora.data.duplicates import Fingerprints
from lumora.data.labels import Colour, Labels
from lumora.data.masks import Coding
from lumora.errors import MaskError

Value = int | Colour


@dataclass(frozen=True)
class Meaning:
    """What a mask's values mean."""

    ids: Mapping[int, int]
    """How many pixels each class has."""
    unknown: Mapping[Value, int]
    """How many pixels have each number or colour that is no class."""
    ignored: int
    """How many pixels count nowhere."""
    by_colour: bool = False
    """Whether the colours of a palette are read, and not its numbers."""


@dataclass(frozen=True)
class Examined:
    """Records, what is known of each, and what follows for many checks."""

    data: Records
    facts: Sequence[Facts]
    fingerprints: Fingerprints

    def __iter__(self) -> Iterator[tuple[Record, Facts]]:
        return zip(self.data.records, self.facts, strict=True)

    @property
    def labels(self) -> Labels | None:
        """The labels, if they were made out."""
        return self.data.labels

    def name(self, index: int) -> str:
        """What findings call the picture of a record."""
        return name_of(self.data.records[index].picture, self.data.root)

    def mask_name(self, index: int) -> str:
        """What findings call the mask of a record."""
        mask = self.data.records[index].mask
        return "" if mask is None else name_of(mask, self.data.root)

    def names(self, indices: Iterable[int]) -> tuple[str, ...]:
        """What findings call several pictures."""
        return tuple(self.name(i) for i in indices)

    def mask_names(self, indices: Iterable[int]) -> tuple[str, ...]:
        """What findings call several masks."""
        return tuple(self.mask_name(i) for i in indices)

    def masks(self) -> Iterator[tuple[int, MaskFacts]]:
        """The number of each record that has a readable mask, and what is known of that."""
        for i, facts in enumerate(self.facts):
            if facts.mask is not None and facts.mask.problem is None:
                yield i, facts.mask

    def readable(self) -> Iterator[int]:
        """The numbers of the records whose picture can be read."""
        return (i for i, facts in enumerate(self.facts) if facts.picture.problem is None)

    @cached_property
    def meanings(self) -> Mapping[int, Meaning]:
        """What the values of each mask mean; empty if that is not known."""
        coding = self.data.coding
        if coding is None:
            return {}
        reader = _Reader(coding)
        return {i: reader.meaning(mask) for i, mask in self.masks()}

    @cached_property
    def counts(self) -> Mapping[str | None, Counter[str]]:
        """In each split, how many pictures show each class."""
        found: dict[str | None, Counter[str]] = {record.split: Counter() for record in self.data.records}
        for i, record in enumerate(self.data.records):
            found[record.split].update(self.shown(i))
        return found

    def shown(self, index: int) -> tuple[str, ...]:
        """The names of the classes that a record shows."""
        if index in self.meanings and self.labels is not None:
            return tuple(self.labels.names[i] for i in self.meanings[index].ids)
        return self.data.records[index].labels

    @cached_property
    def same(self) -> Sequence[Sequence[int]]:
        """Groups of records whose pictures have the very same pixels."""
        groups: dict[bytes, list[int]] = {}
        for i in self.readable():
            if not self.facts[i].picture.one_colour:
                groups.setdefault(self.facts[i].picture.digest, []).append(i)
        return [group for group in groups.values() if len(group) > 1]

    @cached_property
    def alike(self) -> Sequence[Sequence[int]]:
        """Groups of records whose pictures are near duplicates, of which some are not the very same."""
        from lumora.data.duplicates import groups, near_duplicates

        plain = {i for i, facts in enumerate(self.facts) if facts.picture.one_colour}
        pairs = [pair for pair in near_duplicates(self.fingerprints) if plain.isdisjoint(pair)]
        found: dict[int, list[int]] = {}
        for i, first in enumerate(groups(len(self.facts), pairs)):
            found.setdefault(first, []).append(i)
        return [
            group
            for group in found.values()
            if len(group) > 1 and len({self.facts[i].picture.digest for i in group}) > 1
        ]


class _Reader:
    """What values mean; each is looked up once, in the way in which a training reads them."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self._known: dict[Value, int | None] = {}

    def meaning(self, mask: MaskFacts) -> Meaning:
        in_colours = mask.in_colours(self.coding.colours is not None)
        values: dict[Value, int] = dict(mask.colours.items()) if in_colours else dict(mask.numbers.items())
        by_palette = bool(mask.palette) and self._is_by_colour(mask.palette)
        if mask.palette and by_palette:
            by_colour: Counter[Value] = Counter()
            for number, count in mask.numbers.items():
                by_colour[mask.palette.get(number, (0, 0, 0))] += count
            values = by_colour
        ids: Counter[int] = Counter()
        unknown: dict[Value, int] = {}
        for value, count in values.items():
            found = self._id(value)
            if found is None:
                unknown[value] = count
            else:
                ids[found] += count
        ignored = ids.pop(self.coding.labels.ignore, 0)
        return Meaning(ids, unknown, ignored, by_palette)

    def _is_by_colour(self, palette: Mapping[int, Colour]) -> bool:
        colours = self.coding.colours
        if colours is None or not all(colour in colours for colour in palette.values()):
            return False
        return any(self._id(number) != self._id(colour) for number, colour in palette.items())

    def _id(self, value: Value) -> int | None:
        if value not in self._known:
            self._known[value] = self._read(value)
        return self._known[value]

    def _read(self, value: Value) -> int | None:
        try:
            if isinstance(value, int):
                return int(self.coding.ids_of_numbers(np.array([[value]]), "")[0, 0])
            if self.coding.colours is None:
                return None
            return int(self.coding.ids_of_colours(np.array([[value]], dtype=np.uint8), "")[0, 0])
        except MaskError:
            return None
