"""Masks in colours where numbers are expected, and palettes that contradict the numbers."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import Colour, counted, listed


def colour_masks(examined: Examined) -> Iterator[Finding]:
    """Masks in RGB whose colours mean nothing, and mixtures of masks in colours with masks in numbers."""
    masks = dict(examined.masks())
    coding = examined.data.coding
    if coding is None:
        return
    coloured = [i for i, mask in masks.items() if mask.in_colours(coding.colours is not None)]
    if not coloured:
        return
    if coding.colours is None:
        seen = sorted({colour for i in coloured for colour in masks[i].colours})
        yield Finding(
            "colour-mask",
            "error",
            f"{len(coloured):,} of {counted(len(masks), 'mask')} in colours ({listed(seen, 4)}), and what they "
            "mean is not known.",
            "List a colour with every label (labels.csv with columns name, r, g, b); --fix then writes numbers.",
            examined.mask_names(coloured),
        )
    elif len(coloured) < len(masks):
        fewer = coloured if 2 * len(coloured) <= len(masks) else [i for i in masks if i not in set(coloured)]
        kind = "colours" if fewer is coloured else "numbers"
        yield Finding(
            "mixed-masks",
            "warning",
            f"{len(fewer):,} of {counted(len(masks), 'mask')} in {kind}, the others not.",
            "Make sure that both say the same; --fix writes numbers everywhere.",
            examined.mask_names(fewer),
        )


def palettes(examined: Examined) -> Iterator[Finding]:
    """Palettes that differ from file to file or from the colours of the labels: the numbers may not be the ids."""
    coding, labels = examined.data.coding, examined.labels
    if coding is None or labels is None:
        return
    yield from _by_colour(examined)
    if labels.colours is not None and coding.colours is not None:
        yield from _against_labels(examined)
        return
    drawn: dict[int, Colour] = {}
    differing: list[int] = []
    for i, mask in examined.masks():
        palette = {n: c for n, c in (mask.palette or {}).items() if n not in coding.ignore}
        if any(drawn.setdefault(number, colour) != colour for number, colour in palette.items()):
            differing.append(i)
    if differing:
        yield Finding(
            "palette",
            "warning",
            f"{counted(len(differing), 'mask')} with another colour for the same number than masks before: the program "
            "that wrote them may have numbered the colours of each file anew.",
            "Compare a few. If the colours are what counts, list them with the labels (columns name, r, g, b): masks "
            "are read by colour then.",
            examined.mask_names(differing),
        )


def _by_colour(examined: Examined) -> Iterator[Finding]:
    """Masks that are read by their palette's colours, as their numbers say something else."""
    coding = examined.data.coding
    if coding is None or coding.colours is None:
        return
    found = [
        i
        for i, mask in examined.masks()
        if mask.palette
        and all(colour in coding.colours for colour in mask.palette.values())
        and any(coding.colours[colour] != number for number, colour in mask.palette.items())
        and not coding.values
        and not coding.reduce
    ]
    if found:
        yield Finding(
            "palette",
            "warning",
            f"{counted(len(found), 'mask')} with a palette whose numbers are not the labels' ids; read here by the "
            "colours, other programs will read the numbers.",
            "Write the ids into the masks; --fix does.",
            examined.mask_names(found),
        )


def _against_labels(examined: Examined) -> Iterator[Finding]:
    coding = examined.data.coding
    colours = (coding.colours if coding else None) or {}
    found = [
        i
        for i, mask in examined.masks()
        if mask.palette
        and not all(colour in colours for colour in mask.palette.values())
        and any(colours.get(colour, number) != number for number, colour in mask.palette.items())
    ]
    if found:
        yield Finding(
            "palette",
            "warning",
            f"{counted(len(found), 'mask')} with a palette in which some colours are those of other labels than the "
            "numbers, and some of none; read by the numbers.",
            "Compare a few. If the colours are what counts, complete the labels' colours.",
            examined.mask_names(found),
        )
