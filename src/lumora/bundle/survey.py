"""What a bundle holds, and whether it is whole; no model is built."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from lumora.bundle import names
from lumora.bundle.about import About, installed_versions
from lumora.bundle.locating import about_folder, files_of, read_about_in
from lumora.data.durable import check_folder
from lumora.lora import hub
from lumora.models import adapters
from lumora.models.adapters import TensorGroup
from lumora.paths import at_home


@dataclass(frozen=True)
class BundleSurvey:
    """A bundle as it lies on the disk, or in a repository."""

    about: About
    config: dict[str, Any]
    """What the adapter's configuration says that is not usual; empty without adapters."""
    groups: tuple[TensorGroup, ...]
    """What was trained; of a repository, of adapters only."""
    files: dict[str, int]
    """The bundle's files that are here, and their bytes."""
    problems: tuple[str, ...] | None
    """What is missing or damaged; None for a repository, whose files were not fetched to be checked."""
    other_versions: dict[str, tuple[str, str]]
    """Libraries that were of another version when it was written: that one, and the one installed here."""


def survey(bundle: str | os.PathLike[str], *, revision: str | None = None) -> BundleSurvey:
    """Look at a bundle. Of one that lies here every file is read once, to check it; no pickle is opened.

    Of one in a repository its description is fetched, and its adapter, which is small.
    """
    here = at_home(bundle).is_dir()
    home = about_folder(bundle, hub.HubOptions(revision))
    about = read_about_in(home)
    problems = _problems(home, about) if here else None
    trained = _Trained()
    if not problems:
        trained = _of_adapter(str(bundle), home, here) if about.method == "lora" else _of_weights(home, here)
    known = (*files_of(about), names.PROCESSOR, *names.FOR_PEOPLE, names.MANIFEST)
    files = {name: (home / name).stat().st_size for name in known if (home / name).is_file()}
    installed = installed_versions()
    both = {name: (was, installed.get(name) or _installed(name)) for name, was in about.versions.items()}
    others = {name: versions for name, versions in both.items() if versions[0] != versions[1]}
    return BundleSurvey(about, trained.config, trained.groups, files, problems, others)


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _problems(home: Path, about: About) -> tuple[str, ...]:
    """What keeps a bundle from being loaded, in words."""
    found = [problem for problem in check_folder(home) if not problem.startswith(names.FOR_PEOPLE)]
    unlisted = [name for name in files_of(about) if not (home / name).is_file() and not _is_told(name, found)]
    return (*found, *(f"{name} is missing" for name in unlisted))


def _is_told(name: str, problems: list[str]) -> bool:
    return any(problem.startswith(name) for problem in problems)


@dataclass(frozen=True)
class _Trained:
    """What is told of the trained tensors."""

    config: dict[str, Any] = field(default_factory=dict[str, Any])
    groups: tuple[TensorGroup, ...] = ()


def _of_adapter(bundle: str, home: Path, here: bool) -> _Trained:
    for name in () if here else (names.ADAPTER_CONFIG, names.ADAPTER):
        hub.fetch(bundle, name, hub.HubOptions(home.name))  # of the same commit, into the same folder
    found = adapters.survey(str(home))
    return _Trained(found.config, found.groups)


def _of_weights(home: Path, here: bool) -> _Trained:
    return _Trained(groups=adapters.groups_in(home / names.WEIGHTS)) if here else _Trained()
