"""Locks between processes that end with the process that holds them, however it ends."""

from __future__ import annotations

import functools
import os
import sys
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

_held: weakref.WeakSet[FileIO] = weakref.WeakSet()

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


def hold(path: Path) -> FileIO | None:
    """The file, made if need be and locked until it is closed or this process ends; None when another has the lock.

    Forked processes do not hold it too, as they otherwise would: workers outlive a killed program for seconds.
    """
    file = FileIO(path, "a+")
    file.seek(0)  # on Windows the byte here is what is locked
    if not try_lock(file.fileno()):
        file.close()
        return None
    _held.add(file)
    _let_go_in_forks()
    return file


@functools.cache
def _let_go_in_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: [file.close() for file in list(_held)])
