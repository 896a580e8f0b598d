"""What the numbers of a task mean: the names of its classes, and their colours for drawing."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from lumora.errors import DataError

Colour = tuple[int, int, int]

IGNORE = 255
"""The value of a mask where nothing counts."""

_IGNORE_IN_LARGE = 65_535
_VOC_CLASSES = 21


@dataclass(frozen=True)
class Labels:
    """The classes of a task, in the order of their ids.

    >>> labels = Labels(("sky", "sea"))
    >>> len(labels), labels.index("sea"), labels.id2label
    (2, 1, {0: 'sky', 1: 'sea'})
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] | None = None
    """Red, green and blue of each class; without them, `palette` gives some that are easy to tell apart."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(same_text(name) for name in self.names))
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise DataError(f"Labels must differ, but {', '.join(map(repr, twice))} is there more than once.")
        if any(not name.strip() for name in self.names):
            raise DataError(f"Label {[not n.strip() for n in self.names].index(True)} has no name; give it one.")
        if self.colours is not None:
            object.__setattr__(self, "colours", tuple(_checked(colour) for colour in self.colours))
            if len(self.colours) != len(self.names):
                raise DataError(
                    f"There are {len(self.names)} labels and {len(self.colours)} colours; give one colour for each."
                )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The id of a label; names in composed and decomposed letters (é) are the same."""
        try:
            return self.names.index(same_text(name))
        except ValueError:
            near = difflib.get_close_matches(name, self.names, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"the labels are {listed(self.names)}."
            raise DataError(f"There is no label {name!r}; {hint}") from None

    @property
    def id2label(self) -> dict[int, str]:
        """As a transformers configuration wants it."""
        return dict(enumerate(self.names))

    @property
    def label2id(self) -> dict[str, int]:
        """As a transformers configuration wants it."""
        return {name: i for i, name in enumerate(self.names)}

    @property
    def ignore(self) -> int:
        """The value where nothing counts in masks of these labels: `IGNORE` unless that is itself a class's id."""
        return ignore_of(len(self))

    def palette(self) -> tuple[Colour, ...]:
        """A colour for every class: the given ones, or Pascal VOC's 21 and then others that are unlike all before."""
        return self.colours or _usual_colours(len(self))


def _usual_colours(count: int) -> tuple[Colour, ...]:
    """Pascal VOC's series, which starts with black; its later colours are too much alike to be told apart."""
    first = tuple(voc_colour(i) for i in range(_VOC_CLASSES))
    if count <= _VOC_CLASSES:
        return first[:count]
    from lumora.data.colours import distinct_colours

    return first + distinct_colours(count - _VOC_CLASSES, first)


def ignore_of(classes: int) -> int:
    """The value where nothing counts in masks of so many classes.

    >>> ignore_of(150), ignore_of(300)
    (255, 65535)
    """
    return IGNORE if classes <= IGNORE else _IGNORE_IN_LARGE


def voc_colour(index: int) -> Colour:
    """The colour that Pascal VOC gives to an id: its bits, three at a time, become the high bits of the channels.

    >>> voc_colour(0), voc_colour(1), voc_colour(15)
    ((0, 0, 0), (128, 0, 0), (192, 128, 128))
    """
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def same_text(text: str) -> str:
    """A name in composed letters: macOS writes é into file names as two characters, others as one."""
    return unicodedata.normalize("NFC", text)


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "picture"), counted(2500, "mask")
    ('1 picture', '2,500 masks')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names for a message, cut after the first few.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    shown = [repr(name) if isinstance(name, str) else str(name) for name in names]
    left = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {left:,} more" if left > 0 else "")


def _checked(colour: Iterable[int]) -> Colour:
    values = tuple(int(value) for value in colour)
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise DataError(f"A colour is three numbers from 0 to 255 (red, green, blue), not {values}.")
    return values[0], values[1], values[2]
