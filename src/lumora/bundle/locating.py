"""Where a bundle lies: in a folder here, or in a repository on the Hub, from which its files are fetched."""

from __future__ import annotations

import os
from pathlib import Path

from lumora.bundle import names
from lumora.bundle.about import About, about_from_json
from lumora.errors import AdapterFileError, BundleError
from lumora.lora import hub
from lumora.paths import at_home

_MOST_JSON = 64 * 2**20


def bundle_folder(where: str | os.PathLike[str], options: hub.HubOptions | None = None) -> Path:
    """The local folder of a bundle; of a repository, that of its files in the Hub's cache, fetched if need be."""
    folder = at_home(where)
    if folder.is_dir():
        _refuse_revision(folder, options)
        if not (folder / names.ABOUT).is_file():
            raise BundleError(f"{folder} is no bundle: it has no {names.ABOUT}.{_what_it_is(folder)}")
        return folder
    if os.path.lexists(folder):
        raise BundleError(f"{folder} is no folder; give the one that holds the bundle's {names.ABOUT}.")
    return repository_folder(str(where), options or hub.HubOptions())


def about_folder(where: str | os.PathLike[str], options: hub.HubOptions | None = None) -> Path:
    """The folder with what a bundle says of itself; of a repository nothing else is fetched."""
    folder = at_home(where)
    if os.path.lexists(folder):
        return bundle_folder(folder, options)
    try:
        return _fetch(str(where), names.ABOUT, options or hub.HubOptions()).parent
    except AdapterFileError as error:
        raise BundleError(f"{str(where)!r} is no bundle: {error}") from error


def read_about_in(folder: Path) -> About:
    """What the bundle in a local folder says of itself."""
    path = folder / names.ABOUT
    try:
        if path.stat().st_size > _MOST_JSON:
            raise BundleError(f"{path} is {path.stat().st_size:,} bytes; it should be a few kilobytes.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is no text ({error.reason}). Copy or download the bundle again.") from error
    return about_from_json(text, str(path))


def files_of(about: About) -> tuple[str, ...]:
    """The files that a bundle cannot be used without."""
    weights = (names.ADAPTER_CONFIG, names.ADAPTER) if about.method == "lora" else (names.WEIGHTS,)
    return (names.ABOUT, *weights, names.PROOF)


def repository_folder(repository: str, options: hub.HubOptions) -> Path:
    """The folder of a repository's files in the Hub's cache, fetched if need be, whatever lies here under this name.

    Files are fetched by the names that a bundle's files have; nothing else that lies in the repository is asked for.
    """
    try:
        folder = _fetch(repository, names.ABOUT, options).parent
        # All of one commit, which is what the cache calls the folder.
        same = hub.HubOptions(folder.name, options.token, options.cache_dir, options.local_files_only)
        for name in (*files_of(read_about_in(folder)), names.MANIFEST):
            _fetch(repository, name, same)
        hub.fetch(repository, names.PROCESSOR, same, required=False)
    except AdapterFileError as error:
        raise BundleError(f"{repository!r} is no bundle: {error}") from error
    return folder


def _fetch(repository: str, name: str, options: hub.HubOptions) -> Path:
    path = hub.fetch(repository, name, options, required=True)
    assert path is not None
    return path


def _refuse_revision(folder: Path, options: hub.HubOptions | None) -> None:
    if options is not None and options.revision is not None:
        raise BundleError(
            f"{folder} is a folder here, which has no revision {options.revision!r}; leave it out, or name a "
            "repository on the Hub."
        )


def _what_it_is(folder: Path) -> str:
    if (folder / names.ADAPTER_CONFIG).is_file():
        return " It holds an adapter alone, which does not know its labels: PeftModel.from_pretrained(base, folder)"
    inside = sorted(path.parent.name for path in folder.glob(f"*/{names.ABOUT}"))
    return f" There is one in {folder / inside[0]}." if inside else ""
