"""Palettes by name, from files, and generated ones: which colour stands for which class."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from lumora.data import known_labels
from lumora.data.colours import distinct_colours
from lumora.data.label_files import colour_of, read_labels
from lumora.data.labels import Colour, Labels, listed
from lumora.errors import DataError
from lumora.paths import at_home

DISTINCT = "distinct"
_KNOWN: dict[str, Callable[[], Labels]] = {
    "ade20k": known_labels.ade20k,
    "cityscapes": known_labels.cityscapes,
    "voc": known_labels.voc,
}
PALETTES = (*_KNOWN, DISTINCT)
"""The names of palettes."""

Palette = str | Path | Sequence[Colour]
"""One of `PALETTES`, a file, or a colour for each class."""


def coloured(labels: Labels, palette: Palette) -> Labels:
    """The same labels in the colours of a palette.

    A palette that names its classes gives each label the colour of the class of its name; where it knows none of them,
    and has enough colours, they are given in order. Labels that get none have generated colours, unlike all others.

    Args:
        labels: of a bundle, say.
        palette: `"ade20k"`, `"cityscapes"`, `"voc"`; `"distinct"` for generated colours; a file, see `read_palette`; or
            a colour for each label.

    >>> coloured(Labels(("tree", "sky")), "ade20k").palette()
    ((4, 200, 3), (6, 230, 230))
    """
    if not isinstance(palette, str | Path):
        return _in_order(labels, [_colour(one) for one in palette], "the given palette")
    name = str(palette).lower()
    if name == DISTINCT:
        return Labels(labels.names, distinct_colours(len(labels)))
    if known := _KNOWN.get(name):
        return _by_name(labels, known())
    found = read_palette(Path(palette))
    return _by_name(labels, found) if isinstance(found, Labels) else _in_order(labels, found, str(palette))


def read_palette(path: Path) -> Labels | list[Colour]:
    """The colours in a file, with the names of their classes or without.

    With names: whatever lists labels with colours, see `lumora.data.label_files.read_labels`. Without: a colour on each
    line, `#804000` or `128 64 0`, or a list of such in JSON.
    """
    try:
        text = at_home(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"The palette {path} cannot be read: {error.strerror}. Give a file, or one of {', '.join(PALETTES)}."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"The palette {path} cannot be read: {error}. Save it as text in UTF-8.") from error
    if bare := _bare(text):
        return bare
    labels = read_labels(at_home(path)).labels
    if labels.colours is None:
        raise DataError(f"{path} does not give every label a colour; write one behind each name, as in: road #804000")
    return labels


def _bare(text: str) -> list[Colour] | None:
    """The colours of a text that holds nothing else."""
    try:
        values: Any = json.loads(text)
    except ValueError:
        values = [line for line in text.splitlines() if line.strip()]
    if not isinstance(values, list) or not values:
        return None
    colours = [_alone(value) for value in cast("list[Any]", values)]
    return [colour for colour in colours if colour is not None] if None not in colours else None


def _alone(value: object) -> Colour | None:
    """A colour, unless there is a name beside it."""
    if isinstance(value, str) and not value.lstrip().startswith("#") and any(c.isalpha() for c in value):
        return None
    return colour_of(value)


def _by_name(labels: Labels, palette: Labels) -> Labels:
    """Each label in the colour of the class of the same name."""
    colours = dict(zip(map(_plain, palette.names), palette.palette(), strict=True))
    known = [colours.get(_plain(name)) for name in labels.names]
    if not any(known):
        if len(palette) < len(labels):
            raise DataError(
                f"The palette names {listed(palette.names, 5)}, and none of the labels ({listed(labels.names, 5)}); "
                f"in order it would not do either: it has {len(palette)} colours for {len(labels)} labels."
            )
        return Labels(labels.names, palette.palette()[: len(labels)])
    others = iter(distinct_colours(known.count(None), tuple(palette.palette())))
    return Labels(labels.names, tuple(colour or next(others) for colour in known))


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _in_order(labels: Labels, colours: Sequence[Colour], where: str) -> Labels:
    if len(colours) < len(labels):
        raise DataError(f"There are {len(labels)} labels and {len(colours)} colours in {where}; give each one its own.")
    return Labels(labels.names, tuple(colours[: len(labels)]))


def _colour(given: object) -> Colour:
    colour = colour_of(given)
    if colour is None:
        raise DataError(f"{given!r} is no colour; write (128, 64, 0) or '#804000'.")
    return colour
