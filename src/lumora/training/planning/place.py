"""The folder of a training in small, which is gone afterwards, however the program ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from lumora.data.locks import hold, is_held
from lumora.data.places import cache_home

_PREFIX = "lumora-plan-"
_LOCK = ".lock"


@contextmanager
def own_place() -> Generator[Path]:
    """A new folder inside the `with`. What programs have left behind that were killed (by SIGKILL) is removed."""
    home = _roomy() or Path(tempfile.gettempdir())
    _remove_left(home)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=home) as name:
        lock = hold(Path(name) / _LOCK)
        try:
            yield Path(name)
        finally:
            if lock is not None:
                lock.close()


def _roomy() -> Path | None:
    """A folder on a disk, if there is one to write to: temporary files often lie in memory, which is measured."""
    home = cache_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return home if os.access(home, os.W_OK) else None


def _remove_left(home: Path) -> None:
    """Remove folders that nobody holds; one that is empty but for the lock is just being made."""
    for folder in home.glob(f"{_PREFIX}*"):
        try:
            used = any(path.name != _LOCK for path in folder.iterdir())
        except OSError:  # another user's, or gone by now
            continue
        if used and not is_held(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)
