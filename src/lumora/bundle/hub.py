"""Bundles on the Hub: checked before they are sent, and again when they have come."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from torch import nn

from lumora.bundle import names
from lumora.bundle.card import card
from lumora.bundle.locating import files_of, read_about_in, repository_folder
from lumora.bundle.reading import check_whole
from lumora.bundle.verify import verify, verify_before_manifest
from lumora.bundle.writing import numbers_in
from lumora.data.durable import check_folder, write_folder
from lumora.errors import BundleError
from lumora.lora import hub
from lumora.paths import at_home

_MESSAGE = "Upload bundle"
_IS_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def push(
    folder: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    base: str | nn.Module | None = None,
) -> str:
    """Send a bundle to a repository on the Hub, made when missing; return the address of the commit.

    It is verified first (see `verify`, which `base` is for), and what has arrived is fetched and compared with what was
    sent. The card then names the repository, unless somebody has edited it. Files that are no part of the bundle stay
    here.
    """
    home = at_home(folder)
    if not home.is_dir():
        raise BundleError(f"There is no folder {home}; give the bundle's.")
    verify(home, base=base)
    with tempfile.TemporaryDirectory(prefix="lumora-") as staging:
        sent = {name: home / name for name in _parts(home)}
        if text := _card_for(home, repository):
            sent[names.CARD] = Path(staging) / names.CARD
            sent[names.CARD].write_text(text, encoding="utf-8")
        address = hub.push(sent, hub.Target(repository, token, private, _MESSAGE, revision))
        arrived = hub.HubOptions(revision=address.rpartition("/")[2], token=token, cache_dir=staging)
        check_whole(repository_folder(_full_name(address, repository), arrived))
    return address


def pull(
    repository: str,
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    base: str | nn.Module | None = None,
) -> Path:
    """Fetch a bundle from a repository into a folder, which it takes once a fresh process got its model from it."""
    if not _IS_REPOSITORY.fullmatch(repository) and at_home(repository).exists():
        raise BundleError(f"{repository!r} is a folder here; a repository on the Hub is called user/name.")
    fetched = repository_folder(repository, hub.HubOptions(revision=revision, token=token))
    check_whole(fetched)
    same = hub.HubOptions(revision=fetched.name, token=token)
    for name in names.FOR_PEOPLE:
        hub.fetch(repository, name, same, required=False)

    def fill(place: Path) -> None:
        for name in _parts(fetched):
            if name != names.MANIFEST:
                shutil.copyfile(fetched / name, place / name)
        verify_before_manifest(place, base)

    target = at_home(folder)
    write_folder(target, fill)
    return target


def _parts(home: Path) -> list[str]:
    """The files of a bundle that are there."""
    known = (*files_of(read_about_in(home)), names.PROCESSOR, *names.FOR_PEOPLE, names.MANIFEST)
    return [name for name in known if (home / name).is_file()]


def _card_for(home: Path, repository: str) -> str | None:
    """The card with the repository's name in its snippets; None where somebody has written another."""
    if any(problem.startswith(names.CARD) for problem in check_folder(home)):
        return None
    about = read_about_in(home)
    thumbnail = (home / names.THUMBNAIL).is_file()
    return card(about, parameters=numbers_in(home, about), thumbnail=thumbnail, place=repository)


def _full_name(address: str, repository: str) -> str:
    """The repository's name with its owner's, which may be left out when sending: it is in the commit's address."""
    return "/".join(address.split("/commit/")[0].split("/")[-2:]) if "/commit/" in address else repository
