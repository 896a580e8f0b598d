"""Locks between processes that end with the process that holds them, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        while not try_lock(file):
            pass  # each attempt waits up to ten seconds

    def try_lock(file: int) -> bool:
        """Take the lock on an open file unless another has it."""
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def try_lock(file: int) -> bool:
        """Take the lock on an open file unless another has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextmanager
def locked(path: Path) -> Generator[int]:
    """The open file, which no other process or thread holds until the end of the block; it is made if need be."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(file)
        yield file
    finally:
        os.close(file)  # lets the lock go


def is_held(path: Path) -> bool:
    """Whether some process has locked this file; False when there is no such file."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not try_lock(file)
    finally:
        os.close(file)
