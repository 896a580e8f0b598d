"""How data are read when nothing is said. The values are those of `lumora.data.open_source`."""

from __future__ import annotations

from collections.abc import Mapping

from lumora.training.rules.base import Choice, Choosing, Rule, always, default, detected


def task(known: Choosing) -> Choice:
    """What the data are labelled for."""
    return detected(known.facts.task, "what the data are labelled for")


def validation(known: Choosing) -> Choice:
    """0.2, or half of what a large test leaves."""
    left = 1 - known["data.test"]
    if left <= 0.4:
        return default(left / 2, "half of what the test leaves")
    return default(0.2, "a fifth, where the data have no validation split")


RULES: Mapping[str, Rule] = {
    "data.path": always(None, "the data are at hand"),
    "data.task": task,
    "data.layout": always(None, "found out from the files"),
    "data.labels": always(None, "those that the data name"),
    "data.columns": always(None, "found out from the headings"),
    "data.subset": always(None, "the data have one"),
    "data.ignore": always((255,), "255 in a mask counts nowhere"),
    "data.reduce_labels": always(None, "as the layout says"),
    "data.validation": validation,
    "data.test": always(0.0, "no test is drawn"),
    "data.seed": always(0, "the same splits every time"),
    "data.near_duplicates_together": always(True, "or what was learnt by heart would be measured"),
    "data.skip_bad": always(False, "an unreadable file ends the training before it begins"),
    "data.max_pixels": always(80_000_000, "a picture of that many takes 240 MB"),
}
