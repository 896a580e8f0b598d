"""The names under which bundles can be asked for, and where each lies."""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from lumora.bundle import names
from lumora.errors import AdapterError, BundleError, UnknownAdapterError
from lumora.paths import at_home
from lumora.serve.hosting.loading import Origin

LOG = logging.getLogger("lumora.serve.hosting")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}")
_PATIENCE = 1.0
"""Seconds between two looks into a folder."""


class Catalogue:
    """Names of bundles, and where they lie. What is asked for is looked up here, and is never a path.

    Args:
        given: bundles' folders, folders full of bundles (which are looked into again when a name is not known),
            repositories on the Hub; each may have a name in front: `cats=runs/7/bundle`.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._origins: dict[str, Origin] = {}
        self._folders: list[Path] = []
        self._removed: dict[str, Origin | None] = {}
        """Names that are not found in folders, and where their bundles came from; None where that was never said."""
        self._looked = -_PATIENCE
        self._lock, self._looking = threading.Lock(), threading.Lock()
        for one in given:
            self._take(one)

    def names(self) -> list[str]:
        """All names, in the order in which they came."""
        with self._lock:
            return list(self._origins)

    def find(self, name: str) -> Origin:
        """Where the bundle of a name lies."""
        if (known := self.known(name)) is not None:
            return known
        self._look_again()
        with self._lock:
            if name not in self._origins:
                raise UnknownAdapterError(f"There is no bundle of this name; there are {_listed(self._origins)}.")
            return self._origins[name]

    def known(self, name: str) -> Origin | None:
        """The same; None for a name that is not known yet. No folder is looked into."""
        with self._lock:
            return self._origins.get(name)

    def has(self, name: str, origin: Origin) -> bool:
        """Whether a name still stands for a bundle that was found, and not for another one or for none."""
        with self._lock:
            return self._origins.get(name) is origin

    def anew(self, name: str) -> Origin:
        """Where the bundle of a name lies now, whether it was removed before or not.

        That is in the folders full of bundles; if it is in none of them, where it came from before.
        """
        for folder in self._folders:
            if (found := _bundles_in(folder).get(name)) is not None:
                return Origin(folder=found)
        with self._lock:
            before = self._origins.get(name) or self._removed.get(name)
        if before is None:
            raise UnknownAdapterError("None of the folders that are served has a bundle of this name.")
        return dataclasses.replace(before)  # another object: what is being loaded from there now is not this one

    def add(self, name: str, origin: Origin) -> None:
        """Give a bundle a name, in the place of another bundle if there is one of this name."""
        checked(name)
        with self._lock:
            self._origins[name] = origin
            self._removed.pop(name, None)

    def remove(self, name: str) -> None:
        """Forget a name; it is not found in its folder again either until it is added."""
        with self._lock:
            if name not in self._origins:
                raise UnknownAdapterError(f"There is no bundle of this name; there are {_listed(self._origins)}.")
            self._removed[name] = self._origins.pop(name)

    def keep_out(self, name: str) -> None:
        """The same, also for a name that is not known yet."""
        with self._lock:
            self._removed[name] = self._origins.pop(name, None) or self._removed.get(name)

    # --- what was given -----------------------------------------------------------------------------------------------

    def _take(self, given: str) -> None:
        name, equals, place = given.partition("=")
        if not equals or not _NAME.fullmatch(name) or Path(given).is_dir():  # which may be called rank=8
            name, place = "", given
        folder = at_home(place)
        if not folder.is_dir():
            self._put(name or place.rpartition("/")[2], Origin(repository=checked_repository(place)))
        elif _is_bundle(folder):
            self._put(name or _name_of(folder), Origin(folder=folder.resolve()))
        else:
            self._take_folder(folder, name)

    def _take_folder(self, folder: Path, name: str) -> None:
        if name:
            raise BundleError(f"{folder} is no bundle but a folder, whose bundles have names of their own.")
        homes = _homes_in(folder)
        if not homes:
            raise BundleError(f"There is no bundle in {folder}: none of its folders has a {names.ABOUT}.")
        _check_names(folder, homes)
        self._folders.append(folder)
        for own, place in _bundles_in(folder).items():
            self._put(own, Origin(folder=place))

    def _put(self, name: str, origin: Origin) -> None:
        name = checked(_simplified(name))
        if name in self._origins:
            raise AdapterError(
                f"Two bundles are called {name!r}: {self._origins[name]} and {origin}. Give one of them another name: "
                f"{name}-2={origin}"
            )
        self._origins[name] = origin

    def _look_again(self) -> None:
        with self._looking:  # and not the other lock: folders may be slow, and names that are known are asked for
            if time.monotonic() - self._looked < _PATIENCE:
                return
            found = [item for folder in self._folders for item in _bundles_in(folder).items()]
            self._looked = time.monotonic()
        with self._lock:
            for name, place in found:
                if name not in self._removed:
                    self._origins.setdefault(name, Origin(folder=place))


def checked(name: str) -> str:
    """A name as it is, or an error if a bundle cannot have it."""
    if not _NAME.fullmatch(name):
        raise AdapterError("A bundle's name has 1 to 64 letters, digits, - and _ (no dots or slashes).")
    return name


def checked_repository(name: str) -> str:
    """A repository's name as it is, or an error if it is none."""
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise BundleError(f"{name!r} is neither a folder here nor the name of a repository (user/name) on the Hub.")
    return name


def _bundles_in(folder: Path) -> dict[str, Path]:
    """The bundles in a folder by name, without those that can have none; the first one of a name."""
    found: dict[str, Path] = {}
    for called, home in _homes_in(folder):
        if _NAME.fullmatch(name := _simplified(called)):
            found.setdefault(name, home)
    return found


def _homes_in(folder: Path) -> list[tuple[str, Path]]:
    """What the bundles in a folder are called there, and where they are: in its folders, or as the `bundle` of runs."""
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
    homes = ((path.name, next(filter(_is_bundle, (path, path / "bundle")), None)) for path in inside)
    return [(called, home.resolve()) for called, home in homes if home is not None]


def _is_bundle(folder: Path) -> bool:
    return (folder / names.ABOUT).is_file()


def _check_names(folder: Path, homes: Iterable[tuple[str, Path]]) -> None:
    """Refuse two bundles of one name, and a folder none of whose bundles can have one; warn of others without one."""
    taken: dict[str, Path] = {}
    nameless: list[str] = []
    for called, home in homes:
        if not _NAME.fullmatch(name := _simplified(called)):
            nameless.append(
                f"{home} cannot be asked for: no name can be made of {called!r}, for it has 1 to 64 letters from a to "
                f"z, digits, - and _. Rename that folder, or give the bundle a name: cats={home}"
            )
        elif taken.setdefault(name, home) != home:
            raise AdapterError(
                f"Two bundles in {folder} would be called {name!r}: {taken[name]} and {home}. Rename one of their "
                f"folders, or name the bundles one by one in the place of {folder}: {name}={taken[name]} "
                f"{name}-2={home}"
            )
    if not taken:
        raise BundleError(nameless[0])
    for each in nameless:
        LOG.warning("%s", each)


def _simplified(name: str) -> str:
    """What is left of a folder's name in the name of a bundle, if that can be one."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")


def _name_of(folder: Path) -> str:
    """A bundle's folder's name; that of the run for the bundle of a run."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "bundle" else folder.name


def _listed(known: Iterable[str]) -> str:
    found = list(known)
    return ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "") if found else "none"
