"""Decoded pictures, kept so that each is decoded once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import struct
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lumora.data import entries
from lumora.data.entries import Entry
from lumora.data.locks import is_held, locked, try_lock
from lumora.errors import DataError
from lumora.paths import at_home

_LEDGER = struct.Struct("<Q")
_LEFT_OUT = struct.Struct("<16sQ")
_RESERVE = 512 * 2**20  # of the disk, for everyone else
_STALE = 24 * 3600  # seconds since an entry was last read after which it may go for another
_PREFIX = "lumora-pixels-"
_OURS = re.compile(r"[0-9a-f]{32}(\.[0-9a-f]{8}\.part|\.pixels)")


@dataclass(frozen=True)
class CacheState:
    """What a cache holds, and what did not fit. As text, a sentence for people."""

    folder: Path
    budget: int
    """Bytes."""
    used: int
    """Bytes."""
    left_out: int
    """Pictures of this run that found no room; they are decoded each time."""
    left_out_bytes: int

    def __str__(self) -> str:
        text = f"{self.used / 1e6:,.1f} of {self.budget / 1e6:,.1f} MB of decoded pictures are kept in {self.folder}."
        if not self.left_out:
            return text
        wanted = self.used + self.left_out_bytes
        return (
            f"{text} {self.left_out:,} {'picture' if self.left_out == 1 else 'pictures'} did not fit and will be "
            f"decoded in every epoch; with a budget of {wanted:,} bytes ({wanted / 1e6:,.1f} MB), and as much room on "
            "the disk, all would."
        )


class Cache:
    """Decoded pictures and masks, exactly as they were decoded, within a budget of bytes.

    With a folder they stay there for the next run. Without one they are kept in memory until the program ends. Either
    way all worker processes share them, and several programs may use one folder at once. A file is in place only when
    it is whole: whoever is killed while writing leaves nothing but a temporary file, which the next one removes.

    Costs three bytes for a pixel and one for a mask's; reading one takes 0.1 ms and no copy. An entry that nobody has
    read for a day makes room for others.

    Args:
        folder: where to keep them; made if need be. None for memory.
        budget: the most bytes to take.
    """

    def __init__(self, folder: str | Path | None = None, budget: int = 4 * 2**30) -> None:
        if budget < 0:
            raise DataError(f"A cache was given budget={budget}; it is a number of bytes, such as 4 * 2**30.")
        self.budget = budget
        self._token = secrets.token_hex(8)
        self._forget()
        try:
            self.folder = _in_memory(budget) if folder is None else at_home(folder).absolute()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._session = _held(self._left_out_file)  # says that this run is alive, until it ends
            self._count_anew()
        except OSError as error:
            raise DataError(
                f"Decoded pictures cannot be kept in {folder or tempfile.gettempdir()}: {error.strerror}. Choose "
                "another folder for the cache."
            ) from error
        self._end = weakref.finalize(
            self, _end, os.getpid(), self._session, self._left_out_file, self.folder, folder is None
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "budget": self.budget, "_token": self._token}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a worker process: the same cache, without its upkeep."""
        self.__dict__.update(state)
        self._forget()

    def address(self) -> str:
        """Where the cache is, as a text from which `Cache.at` makes the same one in another process on this machine."""
        return json.dumps({**self.__getstate__(), "folder": str(self.folder)})

    @classmethod
    def at(cls, address: str) -> Self:
        """The cache of another process, without its upkeep; it is there as long as that process is."""
        state = json.loads(address)
        cache = cls.__new__(cls)
        cache.__setstate__({**state, "folder": Path(state["folder"])})
        return cache

    def _forget(self) -> None:
        """What this process alone knows."""
        self._refused: set[str] = set()
        self._read: set[str] = set()
        self._verified: set[str] = set()
        self._swept = False

    def read(self, key: str) -> Entry | None:
        """What was kept under this key, if anything was."""
        path = self._path(key)
        try:
            entry = entries.read(path, self._verified)
        except FileNotFoundError:
            return None
        if entry is None:
            self._remove(path)
        elif key not in self._read:
            self._read.add(key)
            with contextlib.suppress(OSError):
                os.utime(path)
        return entry

    def keep(self, key: str, entry: Entry) -> bool:
        """Keep this under a key, if it fits; whether it is there now."""
        if key in self._refused:
            return False
        path = self._path(key)
        try:
            return self._write(path, key, entry)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise DataError(
                    f"A decoded picture cannot be kept in {self.folder}: {error.strerror}. Choose another folder for "
                    "the cache, or do without one."
                ) from error
            self._leave_out(key, entry.size)
            return False

    def state(self) -> CacheState:
        """What all processes of this run together have kept and left out."""
        with locked(self._ledger_file) as ledger:
            used = _used(ledger)
        content = self._left_out_file.read_bytes() if self._left_out_file.exists() else b""
        content = content[: len(content) // _LEFT_OUT.size * _LEFT_OUT.size]
        sizes: dict[bytes, int] = dict(_LEFT_OUT.iter_unpack(content))
        return CacheState(self.folder, self.budget, used, len(sizes), sum(sizes.values()))

    @property
    def _ledger_file(self) -> Path:
        return self.folder / "ledger"

    @property
    def _left_out_file(self) -> Path:
        return self.folder / f"{self._token}.run"

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.pixels"

    def _write(self, path: Path, key: str, entry: Entry) -> bool:
        temporary = path.with_name(f"{key}.{secrets.token_hex(4)}.part")
        size = entry.size
        with locked(self._ledger_file) as ledger:
            if path.exists():
                return True
            if not self._has_room(ledger, size):
                self._leave_out(key, size)
                return False
            # First the ledger: being killed now costs room until the next start, but never breaks the budget.
            _set_used(ledger, _used(ledger) + size)
            path.parent.mkdir(exist_ok=True)
            file = temporary.open("xb")
            try_lock(file.fileno())  # says that its writer is alive
        done = False
        try:
            with file:
                _reserve(file.fileno(), size)
                entries.write(file, entry)
                file.flush()
                if sys.platform == "win32":
                    file.close()  # open files cannot be renamed there
                with locked(self._ledger_file):
                    if not path.exists():  # else another process was faster
                        temporary.replace(path)
                        done = True
        except FileNotFoundError:  # cleared away, and counted as gone, by a program that started just now
            return False
        finally:
            if not done:
                with locked(self._ledger_file) as ledger, contextlib.suppress(FileNotFoundError):
                    temporary.unlink()
                    _set_used(ledger, _used(ledger) - size)
        return True

    def _has_room(self, ledger: int, size: int) -> bool:
        if shutil.disk_usage(self.folder).free < size + _RESERVE:
            return False
        if _used(ledger) + size > self.budget and not self._swept:
            self._swept = True
            self._sweep(ledger, self.budget - size, time.time() - _STALE)
        return _used(ledger) + size <= self.budget

    def _leave_out(self, key: str, size: int) -> None:
        self._refused.add(key)
        with contextlib.suppress(OSError), self._left_out_file.open("ab", buffering=0) as file:
            file.write(_LEFT_OUT.pack(bytes.fromhex(key), size))

    def _remove(self, path: Path) -> None:
        with locked(self._ledger_file) as ledger, contextlib.suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            _set_used(ledger, max(0, _used(ledger) - size))

    def _count_anew(self) -> None:
        """Clear away what dead processes left, count what is there, and shrink it to the budget."""
        with locked(self._ledger_file) as ledger:
            for path in self.folder.glob("*.run"):
                if path != self._left_out_file and not is_held(path):
                    path.unlink(missing_ok=True)
            for found in self._files():
                if found.name.endswith(".part") and not is_held(Path(found.path)):
                    Path(found.path).unlink()
            _set_used(ledger, sum(found.stat().st_size for found in self._files()))
            self._sweep(ledger, self.budget, time.time())

    def _sweep(self, ledger: int, most: int, before: float) -> None:
        """Remove entries last read before this time, the oldest first, until so many bytes at most are used."""
        if _used(ledger) <= most:
            return
        found = sorted(
            (status.st_mtime, status.st_size, entry.path) for entry in self._files() if (status := entry.stat())
        )
        for read, size, path in found:
            if _used(ledger) <= most or read > before:
                return
            if path.endswith(".pixels"):
                with contextlib.suppress(OSError):
                    Path(path).unlink()
                    _set_used(ledger, _used(ledger) - size)

    def _files(self) -> Iterator[os.DirEntry[str]]:
        for shelf in self.folder.glob("[0-9a-f][0-9a-f]"):
            with os.scandir(shelf) as found:
                yield from (entry for entry in found if _OURS.fullmatch(entry.name))


def _held(path: Path) -> int:
    """A new file that is locked from the moment that others can see it under this name."""
    new = path.with_suffix(".new")
    file = os.open(new, os.O_RDWR | os.O_CREAT, 0o666)
    try_lock(file)
    if sys.platform == "win32":
        os.close(file)
        new.replace(path)
        file = os.open(path, os.O_RDWR)
        try_lock(file)
    else:
        new.replace(path)
    return file


def _used(ledger: int) -> int:
    os.lseek(ledger, 0, os.SEEK_SET)
    content = os.read(ledger, _LEDGER.size)
    return _LEDGER.unpack(content)[0] if len(content) == _LEDGER.size else 0


def _set_used(ledger: int, used: int) -> None:
    os.lseek(ledger, 0, os.SEEK_SET)
    os.write(ledger, _LEDGER.pack(max(0, used)))


def _reserve(file: int, size: int) -> None:
    """Take the room now: a full disk is an error here and not a crash when the pages are written."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Some file systems cannot.


def _in_memory(budget: int) -> Path:
    """A new folder in memory; where that is too small, among the temporary files, which systems keep in memory too."""
    places = [Path("/dev/shm"), Path(tempfile.gettempdir())]
    # Half of the shared memory is for others: batches travel between processes there.
    roomy = [place for place in places if place.is_dir() and shutil.disk_usage(place).free // 2 >= budget]
    place = roomy[0] if roomy else places[-1]
    for old in place.glob(f"{_PREFIX}*"):
        runs = list(old.glob("*.run"))
        if runs and not any(is_held(run) for run in runs):  # its program was killed
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))


def _end(owner: int, session: int, left_out: Path, folder: Path, in_memory: bool) -> None:
    if os.getpid() != owner:  # a forked worker: the cache is its parent's
        return
    os.close(session)
    left_out.unlink(missing_ok=True)
    if in_memory:
        shutil.rmtree(folder, ignore_errors=True)
