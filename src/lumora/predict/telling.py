"""Errors of single pictures, gathered to be told together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from lumora.errors import DataError, LumoraWarning

_NAMED = 20
"""Pictures that are named in one error."""


def bare(error: DataError) -> DataError:
    """The error without the places that it came through: they would keep all that was read of the file in memory."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def tell(bad: Sequence[DataError], count: int, skip_bad: bool) -> None:
    """Warn of each of the pictures that cannot be used, or raise one error that names all."""
    if not bad:
        return
    if not skip_bad:
        raise bad[0] if count == 1 else _unusable(bad, count)
    for error in bad:
        warnings.warn(f"Skipped: {error}", LumoraWarning, stacklevel=3)


def _unusable(bad: Sequence[DataError], count: int) -> DataError:
    lines = [f"  - {error}" for error in bad[:_NAMED]]
    lines += [f"  - and {len(bad) - _NAMED:,} more"] * (len(bad) > _NAMED)
    return DataError(
        f"{len(bad):,} of {count:,} pictures cannot be used; mend them, or leave them out with skip_bad=True "
        "(--skip-bad).\n" + "\n".join(lines)
    )
