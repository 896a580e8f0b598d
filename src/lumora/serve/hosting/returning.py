"""Memory that nobody needs any more, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Let the system have what was freed, where the C library would keep it (glibc does).

    Bundles that come and go otherwise leave holes between what stays, in which nothing fits: after half an hour of it a
    process was several times as large as all that it held.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return None
