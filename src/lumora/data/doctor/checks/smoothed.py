"""Masks whose edges were smoothed, or that were compressed like photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lumora.data.doctor.examined import Examined, Meaning
from lumora.data.doctor.facts import MaskFacts
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted
from lumora.data.masks import Coding

_SMOOTH = 2
"""So many different values that are no class, and lie between classes, are no slip of a pen."""
_SMOOTH_IDS = 5
"""The same for ids from 0 on, where everything else lies between the last and the 255 that counts nowhere."""
_THIN = 0.01
_THIN_VALUES = 10
_THIN_TOGETHER = 0.2
"""Edges have many values, each in few pixels, and all of them together in few."""


def smoothed(examined: Examined) -> Iterator[Finding]:
    """Masks in JPEG, and masks with values between those of two classes."""
    lossy = [i for i, mask in examined.masks() if is_lossy(mask)]
    if lossy:
        yield Finding(
            "lossy-mask",
            "error",
            f"{counted(len(lossy), 'mask')} compressed with loss (JPEG): numbers near the edges are not those that "
            "were drawn.",
            "Export the masks again as PNG. Numbers that were changed into other classes cannot be told any more.",
            examined.mask_names(lossy),
        )
    coding = examined.data.coding
    soft = [
        i
        for i, mask in examined.masks()
        if coding is not None
        and i in examined.meanings
        and not is_lossy(mask)
        and is_smoothed(mask, examined.meanings[i], coding)
    ]
    if soft:
        yield Finding(
            "smoothed-mask",
            "error",
            f"{counted(len(soft), 'mask')} with smoothed edges: values between those of two classes.",
            "Draw or scale masks without smoothing (nearest neighbour). In a repaired copy such pixels count nowhere.",
            examined.mask_names(soft),
        )
    if blurred := perhaps_smoothed(examined):
        yield Finding(
            "smoothed-mask",
            "warning",
            f"{counted(len(blurred), 'mask')} with many values that hardly any pixel has. As no list names the labels, "
            "each of them counts as a class; they may be smoothed edges.",
            "Name the labels (labels=…, or a labels.txt beside the folders); what is none of them is then told.",
            examined.mask_names(blurred),
        )


def perhaps_smoothed(examined: Examined) -> list[int]:
    """Masks whose edges may be smoothed, where the labels are not known but for what occurs."""
    if not examined.data.guessed:
        return []
    pixels: Counter[int] = Counter()
    for meaning in examined.meanings.values():
        pixels.update(meaning.ids)
    total = sum(pixels.values())
    thin = {i for i, count in pixels.items() if count < _THIN * total}
    if len(thin) < _THIN_VALUES or sum(pixels[i] for i in thin) > _THIN_TOGETHER * total:
        return []
    return [i for i, meaning in examined.meanings.items() if len(thin & meaning.ids.keys()) >= _SMOOTH_IDS]


def is_lossy(mask: MaskFacts) -> bool:
    """Whether the file's format changes pixels."""
    return mask.header is not None and mask.header.format in ("JPEG", "MPO", "JPEG2000", "AVIF")


def is_smoothed(mask: MaskFacts, meaning: Meaning, coding: Coding) -> bool:
    """Whether the values that are no class lie between two classes that occur, as mixing makes them."""
    if is_lossy(mask):
        return True
    in_colours = mask.in_colours(coding.colours is not None)
    least = _SMOOTH if in_colours or coding.values else _SMOOTH_IDS
    if len(meaning.unknown) < least:
        return False
    if in_colours:
        table = coding.colours or {}
        known = [colour for colour in mask.colours if colour in table]
        colours = [value for value in meaning.unknown if isinstance(value, tuple)]
        between = sum(any(_between(c, a, b) for a in known for b in known if a < b) for c in colours[:64])
        return len(known) > 1 and 2 * between >= min(len(colours), 64)
    numbers = [value for value in meaning.unknown if isinstance(value, int)]
    known_numbers = [number for number in mask.numbers if number not in meaning.unknown]
    if len(known_numbers) < 2:
        return False
    return all(min(known_numbers) < number < max(known_numbers) for number in numbers)


def _between(colour: tuple[int, ...], a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether a colour lies on the line between two others, but for rounding."""
    along = [y - x for x, y in zip(a, b, strict=True)]
    length = sum(d * d for d in along)
    if length == 0:
        return False
    share = sum((c - x) * d for c, x, d in zip(colour, a, along, strict=True)) / length
    return 0 < share < 1 and all(abs(c - (x + share * d)) <= 2 for c, x, d in zip(colour, a, along, strict=True))
