"""Data that a training could not even open."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.data.doctor.examined import Examined
from lumora.data.doctor.report import Finding


def opening(examined: Examined) -> Iterator[Finding]:
    """What stops the data from being opened, in the words of the one who opens them."""
    for problem in examined.data.problems:
        yield Finding("cannot-open", "error", problem, "Until then only what each file says by itself is checked.")
