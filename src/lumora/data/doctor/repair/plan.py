"""What a repaired copy will hold: decided for all samples before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lumora.data.doctor.checks.label_variants import plain, spellings
from lumora.data.doctor.checks.modes import ALWAYS_ODD, kind
from lumora.data.doctor.checks.sizes import fits
from lumora.data.doctor.checks.smoothed import is_lossy, perhaps_smoothed
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.facts import MaskFacts
from lumora.data.labels import listed, same_text
from lumora.errors import DataError

_UNKNOWN = 0.2
"""A mask in which a larger part belongs to no class is left out."""


@dataclass(frozen=True)
class Change:
    """One thing in which the copy differs from the original."""

    kind: Literal["left-out", "moved", "renamed", "turned", "converted", "mask-rewritten"]
    file: str
    what: str


@dataclass(frozen=True)
class Kept:
    """One sample of the copy."""

    index: int
    """Its number among the records."""
    split: str | None
    labels: tuple[str, ...]
    decode: bool = False
    """Whether its picture is written anew, upright in RGB; else its file is copied as it is."""
    rewrite: bool = False
    """Whether its mask is written anew, as ids; else its file is copied as it is."""


@dataclass(frozen=True)
class Plan:
    """The samples of the copy and what was changed for it."""

    kept: Sequence[Kept]
    changes: Sequence[Change] = field(default=())


def plan(examined: Examined) -> Plan:
    """Decide what becomes of every sample."""
    data = examined.data
    if data.task is None:
        raise DataError(f"Nothing can be repaired before the data can be opened: {data.problems[0]}")
    if data.task == "segmentation" and (data.coding is None or data.labels is None):
        raise DataError(f"Masks cannot be repaired before it is known what they mean: {data.problems[0]}")
    if perhaps_smoothed(examined):
        raise DataError(
            "Masks cannot be repaired before it is known which of their values are classes, as some look like smoothed "
            "edges. Name the labels: labels=…, or a labels.txt beside the folders."
        )
    changes: list[Change] = []
    kept: list[Kept] = []
    for i, record in enumerate(data.records):
        reason = _unusable(examined, i)
        if reason is None:
            kept.append(Kept(i, record.split, record.labels))
        else:
            changes.append(Change("left-out", examined.name(i), reason))
    kept = _divided(examined, kept, changes)
    kept = _renamed(examined, kept, changes)
    odd = _odd(examined)
    return Plan([_written(examined, each, odd, changes) for each in kept], changes)


def _unusable(examined: Examined, index: int) -> str | None:
    """Why a sample cannot be in the copy, or None."""
    facts = examined.facts[index]
    if facts.picture.problem is not None:
        return f"it cannot be read ({facts.picture.problem.kind})"
    if examined.data.task != "segmentation":
        return None
    if facts.mask is None:
        return "it has no mask"
    if facts.mask.problem is not None:
        return f"its mask cannot be read ({facts.mask.problem.kind})"
    if not fits(examined, index):
        return "its mask is of another size"
    return _unusable_mask(examined, index, facts.mask)


def _unusable_mask(examined: Examined, index: int, mask: MaskFacts) -> str | None:
    coding, meaning = examined.data.coding, examined.meanings[index]
    assert coding is not None
    if coding.colours is None and mask.in_colours(False):
        return "its mask is a colour picture, and what the colours mean is not known"
    if is_lossy(mask):
        return "its mask was compressed with loss, and the classes cannot be told any more"
    unknown = mask.pixels - sum(meaning.ids.values()) - meaning.ignored
    if unknown > _UNKNOWN * mask.pixels:
        return f"{unknown / mask.pixels:.0%} of its mask belong to no label"
    return None


def _divided(examined: Examined, kept: Sequence[Kept], changes: list[Change]) -> list[Kept]:
    """Each picture once, and near duplicates in one split: the largest of those they were in."""
    of = {each.index: each for each in kept}
    sizes = Counter(each.split for each in kept)
    order = list(sizes)
    for group in _groups(examined):
        members = [of[i] for i in group if i in of]
        if not members:
            continue
        largest = max((each.split for each in members), key=lambda split: (sizes[split], -order.index(split)))
        there: dict[tuple[object, ...], int] = {}
        for each in sorted(members, key=lambda each: each.split != largest):
            first = there.setdefault(_content(examined, each.index), each.index)
            if first != each.index:
                del of[each.index]
                what = f"it is the same picture as {examined.name(first)}"
                changes.append(Change("left-out", examined.name(each.index), what))
            elif each.split != largest:
                of[each.index] = replace(each, split=largest)
                what = f"from {each.split} to {largest}, where its near duplicate is"
                changes.append(Change("moved", examined.name(each.index), what))
    return list(of.values())


def _groups(examined: Examined) -> Iterator[Sequence[int]]:
    """Groups of pictures that show the same, exactly or nearly."""
    from lumora.data.duplicates import groups

    pairs = [(group[0], i) for found in (examined.same, examined.alike) for group in found for i in group[1:]]
    together: dict[int, list[int]] = {}
    for i, first in enumerate(groups(len(examined.facts), [(min(pair), max(pair)) for pair in pairs])):
        together.setdefault(first, []).append(i)
    return (group for group in together.values() if len(group) > 1)


def _content(examined: Examined, index: int) -> tuple[object, ...]:
    """What must be the same for one of two samples to be superfluous: with other labels, neither is."""
    facts = examined.facts[index]
    labels = sorted(map(plain, examined.data.records[index].labels))
    return facts.picture.digest, facts.mask.digest if facts.mask else b"", *labels


def _renamed(examined: Examined, kept: Sequence[Kept], changes: list[Change]) -> list[Kept]:
    if examined.data.task == "segmentation":
        return list(kept)
    usual: Mapping[str, str] = spellings(examined)
    made: list[Kept] = []
    for each in kept:
        labels = tuple(dict.fromkeys(same_text(usual.get(label, label)) for label in each.labels))
        if labels != each.labels:
            what = f"{listed(each.labels)} to {listed(labels)}"
            changes.append(Change("renamed", examined.name(each.index), what))
        made.append(replace(each, labels=labels))
    return made


def _odd(examined: Examined) -> Mapping[int, str]:
    """The kind of each picture that becomes RGB: all others, if there are several kinds."""
    kinds = {i: kind(examined, i) for i in examined.readable()}
    several = len(set(kinds.values())) > 1
    return {i: of for i, of in kinds.items() if of != "RGB" and (several or of in ALWAYS_ODD)}


def _written(examined: Examined, kept: Kept, odd: Mapping[int, str], changes: list[Change]) -> Kept:
    """Whether picture and mask are copied or written anew."""
    i = kept.index
    header = examined.facts[i].picture.header
    turned = header is not None and header.orientation != 1
    if turned:
        changes.append(Change("turned", examined.name(i), "its pixels are upright now, with its mask's"))
    if i in odd:
        changes.append(Change("converted", examined.name(i), f"from {odd[i]} to RGB"))
    reason = _rewriting(examined, i, turned)
    if reason is not None:
        changes.append(Change("mask-rewritten", examined.mask_name(i), reason))
    return replace(kept, decode=turned or i in odd, rewrite=reason is not None)


def _rewriting(examined: Examined, index: int, turned: bool) -> str | None:
    """Why a mask is written anew, or None if its numbers are the ids already."""
    mask, coding = examined.facts[index].mask, examined.data.coding
    if mask is None or coding is None:
        return None
    meaning = examined.meanings[index]
    if meaning.unknown:
        count = sum(meaning.unknown.values())
        return f"{count:,} pixels that belong to no label count nowhere now ({coding.labels.ignore})"
    if mask.in_colours(coding.colours is not None) or meaning.by_colour:
        return "its colours became ids"
    if turned or (mask.header is not None and mask.header.orientation != 1):
        return "its pixels are upright now"
    same = {coding.labels.ignore}
    if coding.values or coding.reduce or any(n in coding.ignore and n not in same for n in mask.numbers):
        return "its numbers became ids"
    return None
