"""Backgrounds that are off by one: ids that start at 1, 255 for what is 0 elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import IGNORE, counted

_MUCH = 0.2
"""The part of a mask from which a value may be its background."""
_MOST = 0.5


def background(examined: Examined) -> Iterator[Finding]:
    """What the numbers 0 and 255 do in masks."""
    coding = examined.data.coding
    # Where colours are what counts, the numbers of masks that happen to be grey say nothing.
    if coding is None or any(mask.in_colours(coding.colours is not None) for _, mask in examined.masks()):
        return
    if coding.values is None and not coding.reduce:
        yield from _starting_at_one(examined)
    if coding.values is not None or len(coding.labels) + coding.reduce <= IGNORE:  # else 255 is a class
        yield from _two_backgrounds(examined)
    yield from _two_foregrounds(examined)


def _starting_at_one(examined: Examined) -> Iterator[Finding]:
    coding, labels = examined.data.coding, examined.labels
    if coding is None or labels is None:
        return
    seen = {n for _, mask in examined.masks() for n in mask.numbers} - set(coding.ignore)
    if not seen or 0 in seen or min(seen) != 1:
        return
    beyond = max(seen) == len(labels)
    what = f"which would leave out {labels.names[0]!r}" if not beyond else f"and there are {len(labels)} labels"
    yield Finding(
        "background",
        "error" if beyond else "warning",
        f"The ids in the masks start at 1 and end at {max(seen)}, {what}: they seem to be counted from 1.",
        f"If 1 is {labels.names[0]!r}, say reduce_labels=True (0 then counts nowhere). If 1 is the second label, "
        "nothing is wrong.",
    )


def _two_backgrounds(examined: Examined) -> Iterator[Finding]:
    """Some masks have 0 in a large part and no 255, others 255 and no 0."""
    zeros: list[int] = []
    others: list[int] = []
    ignored, pixels = 0, 0
    for i, mask in examined.masks():
        zero, high = mask.numbers.get(0, 0), mask.numbers.get(255, 0)
        ignored, pixels = ignored + high, pixels + mask.pixels
        if zero > _MUCH * mask.pixels and not high:
            zeros.append(i)
        elif high > _MUCH * mask.pixels and not zero and high < mask.pixels:
            others.append(i)
    coding = examined.data.coding
    if zeros and others:
        fewer = min(zeros, others, key=len)
        yield Finding(
            "background",
            "warning",
            f"{counted(len(zeros), 'mask')} with much of 0 and {len(others):,} with much of 255: two "
            "numbers for the background?",
            "Write one number for it in all masks: a class's id if it is a class, 255 if it counts nowhere.",
            examined.mask_names(fewer),
        )
    elif coding is not None and 255 in coding.ignore and ignored > _MOST * pixels:
        yield Finding(
            "background",
            "warning",
            f"{ignored / pixels:.0%} of all pixels are 255, which counts nowhere.",
            "If 255 is a background that should be learnt, give it an id of its own, or say ignore=… .",
        )


def _two_foregrounds(examined: Examined) -> Iterator[Finding]:
    """Some masks write 1 for what is 255 in others."""
    ones = [i for i, mask in examined.masks() if set(mask.numbers) == {0, 1}]
    highs = [i for i, mask in examined.masks() if set(mask.numbers) == {0, 255}]
    labels = examined.labels
    if ones and highs and labels is not None and len(labels) <= 2:
        yield Finding(
            "background",
            "error",
            f"{counted(len(ones), 'mask')} of 0 and 1, {len(highs):,} of 0 and 255: one of the two is read wrongly.",
            "Write one number for the foreground in all masks.",
            examined.mask_names(min(ones, highs, key=len)),
        )
