"""Dividing samples into train, validation and test so that it stays.

A sample's side follows from a hash of the seed and its own key, and from nothing else: adding a picture moves no other,
on any machine. As the hash knows no classes, every class is divided in the same proportion, but for chance. Two things
go before that: near duplicates stay together, on the side of the first of them, or what was learnt would be measured;
and where chance gives a side less than half of what is its due of a class, the ones that came closest go there. Only in
these two cases can one picture more move another.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from lumora.data.sample import Sample

Shares = Mapping[str, float]
"""The part of the samples that each split gets, train aside: it gets the rest."""


def position(key: str, seed: int) -> float:
    """A number from 0 to 1 that follows from key and seed alone.

    >>> position("cats/1.jpg", 0) == position("cats/1.jpg", 0) != position("cats/1.jpg", 1)
    True
    """
    digest = hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def divide(samples: Sequence[Sample], shares: Shares, seed: int, group: Sequence[int]) -> dict[str, list[Sample]]:
    """The samples of each split, in their order.

    Args:
        samples: what to divide.
        shares: see `Shares`.
        seed: another seed divides otherwise.
        group: for each sample the number of the first sample of its group, which all go to the same side.
    """
    positions = {i: position(samples[i].key, seed) for i in set(group)}
    side = {i: _side(at, shares) for i, at in positions.items()}
    _even_out(samples, group, positions, side, shares)
    divided: dict[str, list[Sample]] = {split: [] for split in ("train", *shares)}
    for sample, first in zip(samples, group, strict=True):
        divided[side[first]].append(sample)
    return divided


def _side(at: float, shares: Shares) -> str:
    """Test lies lowest, then validation, then train, so that a split added later takes from train only."""
    top = 0.0
    for split in sorted(shares):
        top += shares[split]
        if at < top:
            return split
    return "train"


def _even_out(
    samples: Sequence[Sample], group: Sequence[int], at: Mapping[int, float], side: dict[int, str], shares: Shares
) -> None:
    """Give every split at least half of what is its due of each class, from a side that has more than its own half."""
    of_class: dict[int, set[int]] = {}
    for sample, first in zip(samples, group, strict=True):
        for each in sample.target if isinstance(sample.target, tuple) else (sample.target,):
            of_class.setdefault(-1 if each is None else each, set()).add(first)
    due = {**shares, "train": 1 - sum(shares.values())}
    for _, members in sorted(of_class.items()):
        order = sorted(members, key=lambda i: (at[i], i))
        least = {split: max(1, int(len(order) * share / 2)) for split, share in due.items()}
        for split in sorted(due, key=lambda split: split != "train"):
            # The ones that came closest: train lies at the upper end.
            for i in reversed(order) if split == "train" else order:
                counts = Counter(side[j] for j in order)
                if counts[split] >= least[split]:
                    break
                if counts[side[i]] > least[side[i]]:
                    side[i] = split


class Divided(Mapping[str, Sequence[Sample]]):
    """Splits that are drawn when the samples of one are first asked for: finding near duplicates reads all pictures."""

    def __init__(
        self,
        samples: Sequence[Sample],
        shares: Shares,
        seed: int,
        grouped: Callable[[Sequence[Sample]], Sequence[int]],
        given: Mapping[str, Sequence[Sample]],
    ) -> None:
        self._samples, self._shares, self._seed = samples, shares, seed
        self._grouped, self._given = grouped, given

    def __getitem__(self, split: str) -> Sequence[Sample]:
        if split in self._given:
            return self._given[split]
        return self._drawn[split]

    def __contains__(self, split: object) -> bool:  # not by drawing, as a mapping would
        return split in tuple(self)

    def __iter__(self) -> Iterator[str]:
        return iter(
            split for split in ("train", "validation", "test") if split in {"train", *self._shares, *self._given}
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _drawn(self) -> Mapping[str, Sequence[Sample]]:
        return divide(self._samples, self._shares, self._seed, self._grouped(self._samples))
