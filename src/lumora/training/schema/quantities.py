"""Lengths of time and sizes as people write them: "1h30m", "2GB"."""

from __future__ import annotations

import re

_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s?)?", re.ASCII)
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}
_BINARY_UNITS = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
OFF = "off"
"""A size of nothing."""


def seconds_of(text: str) -> float:
    """The seconds of a length of time; a bare number is seconds.

    >>> seconds_of("90s"), seconds_of("20m"), seconds_of("1h30m"), seconds_of("2.5")
    (90.0, 1200.0, 5400.0, 2.5)
    """
    found = _TIME.fullmatch(text.strip().lower())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no length of time")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def bytes_of(text: str) -> int:
    """The bytes of a size; "off" is none.

    >>> bytes_of("2GB"), bytes_of("1.5 GiB"), bytes_of("off")
    (2000000000, 1610612736, 0)
    """
    if text.strip().lower() == OFF:
        return 0
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size")
    number, unit = found[1], (found[2] or "B").upper()
    factor = {**_UNITS, **_BINARY_UNITS}.get(unit)
    if factor is None or (factor == 1 and "." in number):
        raise ValueError(f"{text!r} is no number of bytes")
    return round(float(number) * factor) if "." in number else int(number) * factor


def size_text(count: int) -> str:
    """The shortest text for a number of bytes that loses nothing.

    >>> size_text(2_000_000_000), size_text(1_500_000), size_text(1537), size_text(0)
    ('2GB', '1500KB', '1537B', 'off')
    """
    if count == 0:
        return OFF
    unit, factor = next((unit, factor) for unit, factor in _UNITS.items() if count % factor == 0)
    return f"{count // factor}{unit}"
