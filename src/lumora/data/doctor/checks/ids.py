"""Masks with numbers that are no class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lumora.data.doctor.checks.smoothed import is_smoothed
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import counted, listed


def ids(examined: Examined) -> Iterator[Finding]:
    """Numbers and colours that belong to no label; those that smoothing made are another finding."""
    wrong: list[int] = []
    pixels: Counter[object] = Counter()
    coding = examined.data.coding
    for i, mask in examined.masks():
        meaning = examined.meanings.get(i)
        if meaning is None or coding is None or not meaning.unknown:
            continue
        # A colour picture where colours mean nothing is another finding, too.
        if coding.colours is None and mask.in_colours(False):
            continue
        if is_smoothed(mask, meaning, coding):
            continue
        wrong.append(i)
        pixels.update(meaning.unknown)
    if not wrong or examined.labels is None:
        return
    values = sorted(pixels, key=str)
    known = f"the ids 0 to {len(examined.labels) - 1}"
    if coding is not None and coding.values:
        known = f"the numbers {listed(sorted(coding.values))}"
    elif coding is not None and coding.reduce:
        known = f"the numbers 1 to {len(examined.labels)}, and 0 for nothing"
    yield Finding(
        "unknown-ids",
        "error",
        f"{counted(len(wrong), 'mask')} with {listed(values)}, which belong to none of the {len(examined.labels)} "
        f"labels ({known}).",
        "Complete the list of labels, or say what counts nowhere (ignore=…). In a repaired copy such pixels count "
        "nowhere.",
        examined.mask_names(wrong),
    )
