"""What the values in mask files mean: from the list of labels, and from a look at some masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lumora.data.content import Content
from lumora.data.label_files import LabelList
from lumora.data.labels import IGNORE, Colour, Labels, ignore_of, listed
from lumora.data.layouts.base import Found, Wishes
from lumora.data.masks import Coding
from lumora.data.reading import Limits, read_raw_mask
from lumora.errors import DataError, UnreadableError

_LOOKS = 24
_MOST_COLOURS = 256


@dataclass
class Look:
    """What some masks hold."""

    masks: int = 0
    numbers: set[int] = field(default_factory=set[int])
    colours: set[Colour] = field(default_factory=set[Colour])
    palettes: list[Any] = field(default_factory=list[Any])

    def add(self, content: Content, limits: Limits) -> None:
        """Read one more mask."""
        raw = read_raw_mask(content, limits=limits)
        self.masks += 1
        if raw.values.ndim == 3 and not _is_grey(raw.values):
            pixels = np.unique(raw.values.reshape(-1, 3), axis=0)
            self.colours |= {(int(r), int(g), int(b)) for r, g, b in pixels[: 4 * _MOST_COLOURS]}
            return
        values = raw.values[..., 0] if raw.values.ndim == 3 else raw.values
        used = np.unique(values)
        self.numbers |= {int(value) for value in used}
        if raw.palette is not None:
            self.palettes.append((used, raw.palette))


def look(masks: Sequence[Content], limits: Limits) -> Look:
    """Read a few masks from all over; those that cannot be read are left to their turn."""
    seen = Look()
    step = max(1, len(masks) // _LOOKS)
    first: UnreadableError | None = None
    for content in masks[::step][:_LOOKS]:
        try:
            seen.add(content, limits)
        except UnreadableError as error:
            first = first or error
    if not seen.masks:
        raise UnreadableError(f"None of the masks can be read. The first: {first}") from first
    return seen


def coding_of(found: Found, wishes: Wishes) -> tuple[Labels, Coding, list[str]]:
    """The labels of a segmentation, how its masks write them, and what was guessed."""
    masks = [item.mask for items in found.parts.values() for item in items if item.mask is not None]
    if not masks:
        raise DataError("No picture has a mask.")
    seen = look(masks, wishes.limits)
    given = wishes.labels or found.labels
    reduce = found.reduce_labels if wishes.reduce_labels is None else wishes.reduce_labels
    if given is not None:
        return _with_list(given, seen, reduce, wishes)
    if seen.colours:
        return _from_colours(seen, wishes)
    return _from_numbers(seen, len(masks), reduce, wishes)


def _with_list(given: LabelList, seen: Look, reduce: bool, wishes: Wishes) -> tuple[Labels, Coding, list[str]]:
    labels, notes = given.labels, list[str]()
    values = {number: i for i, number in enumerate(given.values)} if given.values and not reduce else None
    if values is None and not reduce and len(labels) == 2 and _is_black_and_white(seen):
        values = {0: 0, 255: 1}
        notes.append(f"In the masks 0 is {labels.names[0]!r} and 255 is {labels.names[1]!r}.")
    colours = {colour: i for i, colour in enumerate(labels.colours or ())} or None
    if colours is not None and len(colours) < len(labels):
        colours = None  # drawn in the same colour, so they cannot be told by it
    if seen.colours and colours is None:
        raise DataError(
            f"The masks are colour pictures ({listed(sorted(seen.colours), 4)}), and {given.where} does not say what "
            "each colour means, or gives two labels the same. List a colour with every label: labels='classes.csv' "
            "with columns name, r, g, b."
        )
    if colours is None and _differ(seen):
        notes.append(_PALETTES_DIFFER)
    if labels.colours is None and values is None:
        labels = Labels(labels.names, _palette(seen, len(labels), int(reduce)))
    ignore = tuple(number for number in wishes.ignore if values is None or number not in values)
    coding = Coding(labels, ignore, reduce, values, colours)
    if coding.ignore != ignore and not seen.colours:
        notes.append(_usual_is_a_class(coding))
    return labels, coding, notes


def _from_colours(seen: Look, wishes: Wishes) -> tuple[Labels, Coding, list[str]]:
    if len(seen.colours) > _MOST_COLOURS:
        raise DataError(
            f"The masks are colour pictures with more than {_MOST_COLOURS} colours: smoothed edges, JPEG, or "
            "photographs instead of masks. Save them as PNG without smoothing, and list the colour of every label "
            "(labels='classes.csv')."
        )
    colours = sorted(seen.colours)
    labels = Labels(tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours), tuple(colours))
    note = (
        f"The labels have no names, so they are called by the {len(colours)} colours seen in {seen.masks} masks. Name "
        "them: labels='classes.csv' with columns name, r, g, b."
    )
    return labels, Coding(labels, wishes.ignore, colours={c: i for i, c in enumerate(colours)}), [note]


def _from_numbers(seen: Look, masks: int, reduce: bool, wishes: Wishes) -> tuple[Labels, Coding, list[str]]:
    if _is_black_and_white(seen):
        labels = Labels(("background", "foreground"), ((0, 0, 0), (255, 255, 255)))
        note = (
            "The masks hold 0 and 255, which are read as background and foreground. If 255 is where nothing counts, "
            "say labels=[…] with the name of every class."
        )
        return labels, Coding(labels, (), values={0: 0, 255: 1}), [note]
    numbers = _numbers(seen, reduce, wishes)
    if not numbers or numbers[0] < 0:
        raise DataError(f"The masks hold {listed(sorted(seen.numbers))}: no classes. Are these the right files?")
    where = f"in {seen.masks} of {masks:,} masks"
    first = 1 if reduce else 0
    count = numbers[-1] + 1 - first
    if count <= 2 * len(numbers) or count <= 16:
        labels = Labels(tuple(f"class {i + first}" for i in range(count)), _palette(seen, count, first))
        note = (
            f"The labels have no names: ids {first} to {numbers[-1]} were seen {where}. Name them all: labels=[…], or "
            "a labels.txt beside the folders."
        )
        coding = Coding(labels, wishes.ignore, reduce)
        notes = [note, _PALETTES_DIFFER] if _differ(seen) else [note]
        return labels, coding, notes if coding.ignore == wishes.ignore else [*notes, _usual_is_a_class(coding)]
    labels = Labels(tuple(f"value {number}" for number in numbers))
    note = (
        f"The labels have no names, and the masks no ids from 0 on: they are called by the numbers seen {where}. Name "
        f"them: labels={{{numbers[0]}: 'sky', …}}."
    )
    return labels, Coding(labels, wishes.ignore, values={n: i for i, n in enumerate(numbers)}), [note]


def _numbers(seen: Look, reduce: bool, wishes: Wishes) -> list[int]:
    """The numbers that are classes. What usually counts nowhere is one too where the ids go on above it."""
    nothing = {0} if reduce else set[int]()
    if wishes.ignore == (IGNORE,):
        wide = sorted(seen.numbers - {ignore_of(IGNORE + 1)} - nothing)
        if wide and IGNORE < wide[-1] < 2 * len(wide):
            return wide
    return sorted(seen.numbers - set(wishes.ignore) - nothing)


def _usual_is_a_class(coding: Coding) -> str:
    name, (ignore,) = coding.labels.names[IGNORE - coding.reduce], coding.ignore
    return (
        f"{IGNORE} in the masks is {name!r}, as there are {len(coding.labels):,} labels; {ignore} counts nowhere. If "
        f"{IGNORE} counts nowhere too, say ignore=[{IGNORE}, {ignore}]."
    )


_PALETTES_DIFFER = (
    "The masks' palettes differ from file to file, so the same number may be drawn in two colours. If the colours are "
    "what counts, list them: labels='classes.csv' with columns name, r, g, b."
)


def _palette(seen: Look, count: int, first: int) -> tuple[Colour, ...] | None:
    """The masks' own colours for drawing, if all masks have the same and they can be told apart."""
    if not seen.palettes or len(seen.palettes) < seen.masks or _differ(seen):
        return None
    palette = max((palette for _, palette in seen.palettes), key=len)
    colours = [(int(r), int(g), int(b)) for r, g, b in palette[first : first + count]]
    return tuple(colours) if len(set(colours)) == count else None


def _differ(seen: Look) -> bool:
    """Whether a number stands for two colours in two masks."""
    drawn: dict[int, Colour] = {}
    for used, palette in seen.palettes:
        for number in used[used < len(palette)]:
            r, g, b = palette[number]
            if drawn.setdefault(int(number), (int(r), int(g), int(b))) != (r, g, b):
                return True
    return False


def _is_black_and_white(seen: Look) -> bool:
    return not seen.colours and 255 in seen.numbers and seen.numbers <= {0, 255}


def _is_grey(pixels: Any) -> bool:
    return np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])
