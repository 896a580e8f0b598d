"""Folders and files that are there whole or not at all, whatever ends the process that writes them, or the machine.

What is written is first made in a folder of the writer's own beside the target, and takes its name when all of it is on
the disk:

    .NAME.1a2b3c4d/     the writer's own
        lumora.lock     locked while the writer lives; made first, removed last
        new             what is being written
        old             what had the name before, for the moment between two renames

The two renames are only for systems that cannot exchange two names in one step. Whoever is killed there leaves nothing
under the name; the next writer puts `old` back, and `check_folder` says where it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from lumora.data.exchange import exchange
from lumora.data.locks import hold
from lumora.data.manifest import differences, has_manifest, write_manifest
from lumora.errors import LumoraError, OutputError

_LOCK, _NEW, _OLD = "lumora.lock", "new", "old"
_OWN = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}")
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # where folders need not, or cannot, be brought to the disk
_HINTS = {
    errno.ENOSPC: "Make room, or choose another place.",
    errno.EDQUOT: "Make room, or choose another place.",
    errno.EFBIG: "This place, or a limit for your processes (ulimit -f), does not allow files of this size.",
    errno.EACCES: "Give yourself the right to write there (chmod +w), or choose another place.",
    errno.EPERM: "Give yourself the right to write there (chmod +w), or choose another place.",
    errno.EROFS: "Choose another place.",
    errno.EBUSY: "A disk is mounted there, or a program uses it; choose a folder inside of it.",
}


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Make a folder whole or not at all: `write` fills the empty folder that it is given, which then becomes `target`.

    A manifest is added (see `check_folder`). A folder that was there before is replaced, if it is empty or was made by
    this function too. On any error it is as it was.

    Costs: needs room for the new folder beside the old one; all is read once more, and brought to the disk.
    """
    target = Path(os.path.realpath(target))
    with _place(target) as place:
        _refuse_what_others_wrote(target)
        new = place / _NEW
        new.mkdir()
        write(new)
        write_manifest(new)
        _bring_to_disk(new, (place / _LOCK).stat().st_mode)
        _put_in_place(place, target)


def write_file(target: Path, content: bytes) -> None:
    """Make a file whole or not at all; a file that was there before is replaced, or as it was."""
    target = Path(os.path.realpath(target))
    with _place(target) as place:
        (place / _NEW).write_bytes(content)
        _sync(place / _NEW)
        (place / _NEW).replace(target)
        _sync_after(target.parent)


def remove_folder(target: Path) -> None:
    """Remove a folder so that nobody ever sees a part of it under its name."""
    target = Path(os.path.realpath(target))
    with _place(target, "removed") as place:
        target.rename(place / _NEW)
        _sync_after(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in, so that they are on the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def check_folder(folder: Path) -> list[str]:
    """What is missing, of another size or damaged in a folder that `write_folder` made; empty when it is whole.

    Files that were added later are not looked at. Costs: reads all that is checked.
    """
    if folder.is_dir():
        return differences(folder)
    aside = [place / _OLD for place, name in _places(Path(os.path.realpath(folder)).parent) if name == folder.name]
    if found := [old for old in aside if old.exists()]:
        return [f"{folder} is missing: its writer was killed while replacing it; what was there is whole in {found[0]}"]
    return [f"{folder} is no folder" if folder.exists() else f"{folder} is missing"]


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writers left in this folder, and put back what one of them had moved aside.

    Writers that are alive are not disturbed. Every writer does this first.
    """
    for place, name in _places(folder):
        with contextlib.suppress(OSError):
            if not (place / _LOCK).exists():
                place.rmdir()  # its writer was killed before it began or after it was done, if this works
            elif lock := hold(place / _LOCK):
                _remove(place, folder / name, lock)


def _places(folder: Path) -> list[tuple[Path, str]]:
    """The folders of writers in a folder, each with the name that it writes."""
    try:
        found = [(path, match["name"]) for path in folder.iterdir() if (match := _OWN.fullmatch(path.name))]
    except OSError:
        return []
    return [(path, name) for path, name in found if _is_place(path)]


def _is_place(path: Path) -> bool:
    try:
        return {path / _LOCK, path / _NEW, path / _OLD}.issuperset(path.iterdir())
    except OSError:  # no folder, or gone by now
        return False


@contextmanager
def _place(target: Path, deed: str = "written") -> Generator[Path]:
    """A new folder of this writer's own beside the target, which is gone afterwards; errors of the system in words."""
    written = 0
    try:
        make_folder(target.parent)
        clear_leftovers(target.parent)
        place, lock = _claim(target)
        try:
            yield place
        except BaseException:
            written = _size(place)
            raise
        finally:
            _remove(place, target, lock)
    except LumoraError:
        raise
    except Exception as error:
        if told := _told(target, error, deed, written):
            raise told from error
        raise


def _claim(target: Path, tries: int = 8) -> tuple[Path, FileIO | None]:
    """A new folder beside the target and the lock in it; no lock on a file system that has none.

    There every leftover passes for a living writer's. A lock that another writer has, or a folder that is gone, is one
    that was taken for a leftover in the moment before it was locked.
    """
    place = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    place.mkdir()
    with contextlib.suppress(FileNotFoundError):
        lock = hold(place / _LOCK)
        if (lock or not tries) and (place / _LOCK).exists():
            return place, lock
        _remove(place, target, lock)
    return _claim(target, max(tries - 1, 0))


def _remove(place: Path, target: Path, lock: FileIO | None) -> None:
    """Remove a writer's folder, the lock last: without one, nothing else may be in it."""
    old, new = place / _OLD, place / _NEW
    with contextlib.suppress(OSError):
        if old.exists() and not os.path.lexists(target):
            old.rename(target)
        _discard(new)
        if old.exists():  # first away from the name under which it would be put back
            old.rename(new)
            _discard(new)
        if lock:
            lock.close()  # open files cannot be removed everywhere
        (place / _LOCK).unlink(missing_ok=True)
        place.rmdir()
    if lock:
        lock.close()


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _refuse_what_others_wrote(target: Path) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise OutputError(f"{target} is a file; name a folder that is not there yet.")
    if (found := sorted(path.name for path in target.iterdir())) and not has_manifest(target):
        raise OutputError(
            f"{target} holds other things ({', '.join(found[:3])}), which would be lost; name a folder that is not "
            "there yet, or remove it."
        )


def _put_in_place(place: Path, target: Path) -> None:
    if not os.path.lexists(target):
        (place / _NEW).rename(target)
    elif not exchange(place / _NEW, target):
        target.rename(place / _OLD)  # which is put back should the next line fail
        (place / _NEW).rename(target)
    _sync_after(target.parent)


def _bring_to_disk(folder: Path, usual: int) -> None:
    """Bring a folder with all that is in it to the disk; files may be read by whom new files may usually be read."""
    for inside, _, names in os.walk(folder, topdown=False):
        for path in (Path(inside, name) for name in names):
            if (mode := path.stat().st_mode) | usual != mode:
                path.chmod(mode | usual)  # safetensors makes files that only their owner may read
            _sync(path)
        _sync(Path(inside))


def _sync(path: Path) -> None:
    if os.name == "nt":
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _NO_SYNC or not path.is_dir():
            raise
    finally:
        os.close(file)


def _sync_after(folder: Path) -> None:
    """Bring a rename to the disk. It is done and cannot be called failed any more."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _told(target: Path, error: Exception, deed: str, written: int) -> OutputError | None:
    """An error of the system in words; None for any other."""
    number = error.errno if isinstance(error, OSError) else _number(error)
    if number is None and not isinstance(error, OSError):
        return None
    reason = os.strerror(number) if number else str(error)
    hint = _HINTS.get(number or 0, "Choose another place.")
    if number == errno.ENOSPC:
        free = shutil.disk_usage(_existing(target)).free
        wanted = f", and more than {written / 1e6:,.1f} MB are needed" if written > free else ""
        reason = f"the disk is full: {free / 1e6:,.1f} MB are free{wanted}"
    name = str(getattr(error, "filename", None) or target)
    if not name.startswith(str(target.parent)):  # what was read for it, say
        reason, hint = f"{reason}: {name}", "Mend this and do it again."
    return OutputError(f"{target} could not be {deed}: {reason}. {hint} What was there is unchanged.")


def _number(error: Exception) -> int | None:
    """The system's number of an error that safetensors tells in words only."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _size(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0
