"""Classes that a split lacks."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.checks.label_variants import plain
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding
from lumora.data.labels import listed


def missing_classes(examined: Examined) -> Iterator[Finding]:
    """Classes that no picture shows, and classes that only other splits have."""
    counts = examined.counts
    seen = {plain(name): name for of in counts.values() for name in of}
    if not seen:
        return
    listed_names = examined.labels.names if examined.labels is not None else ()
    if nowhere := [name for name in listed_names if plain(name) not in seen]:
        yield Finding(
            "class-missing",
            "warning",
            f"No picture shows {listed(nowhere)}.",
            "Add pictures, or take the labels out of the list.",
        )
    for split, of in counts.items():
        here = {plain(name) for name in of}
        missing = [name for key, name in sorted(seen.items()) if key not in here]
        if split is None or not here or not missing:
            continue
        effect = "it cannot be learnt" if split == "train" else "it is not measured"
        yield Finding(
            "class-missing-in-split",
            "error" if split == "train" else "warning",
            f"No picture of {split} shows {listed(missing)}, so {effect}.",
            "Move some pictures there from another split.",
        )
