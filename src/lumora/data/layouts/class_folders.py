"""A folder for each class."""

from __future__ import annotations

from collections.abc import Mapping

from lumora.data.content import InFile
from lumora.data.label_files import LabelList, find_labels
from lumora.data.labels import listed
from lumora.data.layouts.base import Found, Item, Layout, Wishes
from lumora.data.listing import Folder, contents_in_words
from lumora.data.split_names import split_folders
from lumora.errors import LayoutError


def _sees(folder: Folder) -> bool:
    return any(inner.has_pictures() for inner in folder.folders.values())


def _read(folder: Folder, wishes: Wishes) -> Found:
    splits, notes = split_folders(folder)
    parts: dict[str | None, list[Item]] = {}
    for split, folders in splits.items() if splits else [(None, [folder])]:
        parts[split] = [item for part in folders for item in _items(part, notes)]
    if not any(parts.values()):
        raise LayoutError(
            f"{folder.path} has no class folders with pictures in them; it has {contents_in_words(folder)}. Put the "
            "pictures of each class into a folder with the class's name."
        )
    words = f"class folders in {', '.join(splits)}" if splits else "class folders"
    return Found(words, "classification", parts, _order(folder, parts), notes=tuple(notes), root=folder.path)


def _order(folder: Folder, parts: Mapping[str | None, list[Item]]) -> LabelList | None:
    """The list beside the folders, if it has all of them: their names may be in another order there."""
    found = find_labels(folder)
    written = {item.label for items in parts.values() for item in items}
    return found if found is not None and written <= set(found.labels.names) else None


def _items(folder: Folder, notes: list[str]) -> list[Item]:
    items: list[Item] = []
    empty: list[str] = []
    for name, inner in folder.folders.items():
        before = len(items)
        items += [Item(inner.key(path), InFile(path), inner.name) for path in inner.all_pictures()]
        if len(items) == before:
            empty.append(name)
    if empty:
        notes.append(f"{folder.path} has folders without pictures, which are left out: {listed(empty)}.")
    if folder.pictures:
        notes.append(
            f"{len(folder.pictures):,} pictures in {folder.path} lie in no class folder and are left out: "
            f"{listed(folder.pictures, 3)}."
        )
    return items


CLASS_FOLDERS = Layout("class-folders", "a folder of pictures for each class", _sees, _read)
