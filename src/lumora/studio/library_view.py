"""Bundles on the shelf: what each says of itself, and what can be made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lumora.bundle import names
from lumora.bundle.card import shown_name
from lumora.bundle.hub import push
from lumora.bundle.locating import read_about_in
from lumora.bundle.merging import Merged, merge
from lumora.bundle.survey import survey
from lumora.errors import BundleError, LumoraError, OutputError
from lumora.paths import at_home
from lumora.predict.onnx_export import Exported, check_installed, export_onnx
from lumora.studio.found import bundle_folders


@dataclass(frozen=True)
class OnShelf:
    """A bundle as it stands in the list."""

    folder: Path
    name: str
    base: str
    task: str
    bytes: int


@dataclass(frozen=True)
class Opened:
    """A bundle, looked at closely."""

    folder: Path
    card: str
    """Its card, without what is for machines."""
    problems: tuple[str, ...]
    other_versions: dict[str, tuple[str, str]]
    bytes: int


def shelf(root: Path, more: Sequence[str] = ()) -> list[OnShelf]:
    """The bundles in a folder, and others by their folders; those that cannot be read are left out."""
    found: list[OnShelf] = []
    for folder in dict.fromkeys([*bundle_folders(root), *map(Path, more)]):
        try:
            about = read_about_in(folder)
            sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
        except (LumoraError, OSError):
            continue
        found.append(OnShelf(folder, name_of(folder), shown_name(about), about.task, sum(sizes)))
    return found


def name_of(folder: Path) -> str:
    """What people call a bundle: as the run that it comes from."""
    return folder.parent.name if folder.name == "bundle" and folder.parent.name else folder.name


def open_bundle(folder: str) -> Opened:
    """Look at a bundle: its card, and whether it is whole. Reads every file of it once."""
    home = _home(folder)
    found = survey(home)
    try:
        card = (home / names.CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        card = "This bundle has no card."
    return Opened(home, _without_head(card), found.problems or (), found.other_versions, sum(found.files.values()))


def merge_bundle(folder: str, out: str) -> Merged:
    """Write a bundle's model as a plain checkpoint into a new folder."""
    if not out.strip():
        raise OutputError("Name the new folder for the plain checkpoint.")
    target = at_home(out.strip())
    if target.exists():
        raise OutputError(f"{target} is there already; name a folder that is not there yet.")
    return merge(_home(folder), target)


def export_bundle(folder: str, out: str) -> Exported:
    """Write a bundle's model as a new ONNX file, which runs without torch."""
    check_installed()
    if not out.strip():
        raise OutputError("Name the new ONNX file.")
    target = at_home(out.strip())
    if target.exists():
        raise OutputError(f"{target} is there already; name a file that is not there yet.")
    return export_onnx(_home(folder), target)


def push_bundle(folder: str, repository: str, *, private: bool, sure: bool) -> str:
    """Send a bundle to the Hub; return the address of what was sent."""
    if not repository.strip():
        raise BundleError("Name the repository as user/name.")
    if not sure:
        raise BundleError("Tick that it may leave this machine first: it is sent to the Hub.")
    return push(_home(folder), repository.strip(), private=private)


def _home(folder: str) -> Path:
    """The folder of a bundle that is here: what is no folder would be asked for on the Hub."""
    if not folder.strip():
        raise BundleError("Choose a bundle first.")
    home = at_home(folder.strip())
    if not home.is_dir():
        raise BundleError(f"There is no folder {home}; choose one of the bundles, or name the folder of another.")
    return home


def _without_head(card: str) -> str:
    """The card below what is for machines, and without its first picture, which lies elsewhere."""
    if card.startswith("---\n"):
        card = card.partition("\n---")[2].lstrip("\n")
    return "\n".join(line for line in card.splitlines() if not line.startswith("!["))
