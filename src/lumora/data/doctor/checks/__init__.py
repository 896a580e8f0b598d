"""The defects that are looked for. A new one is a function in a file here and a line in `CHECKS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lumora.data.doctor.checks.background import background
from lumora.data.doctor.checks.colour_masks import colour_masks, palettes
from lumora.data.doctor.checks.conflicts import conflicts
from lumora.data.doctor.checks.dimensions import dimensions
from lumora.data.doctor.checks.duplicates import duplicates
from lumora.data.doctor.checks.empty import empty
from lumora.data.doctor.checks.ids import ids
from lumora.data.doctor.checks.imbalance import imbalance
from lumora.data.doctor.checks.label_variants import label_variants
from lumora.data.doctor.checks.missing_classes import missing_classes
from lumora.data.doctor.checks.modes import modes
from lumora.data.doctor.checks.opening import opening
from lumora.data.doctor.checks.orientation import orientation
from lumora.data.doctor.checks.pairs import pairs
from lumora.data.doctor.checks.sizes import sizes
from lumora.data.doctor.checks.smoothed import smoothed
from lumora.data.doctor.checks.unreadable import unreadable
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding

Check = Callable[[Examined], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    opening,
    unreadable,
    pairs,
    sizes,
    ids,
    smoothed,
    colour_masks,
    palettes,
    background,
    orientation,
    duplicates,
    conflicts,
    label_variants,
    missing_classes,
    imbalance,
    modes,
    dimensions,
    empty,
)
"""All checks, in the order in which findings of the same severity are told."""

__all__ = ["CHECKS", "Check"]
