"""WebDataset shards: tar archives whose members with one name belong together."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lumora.data.content import InArchive, unopened
from lumora.data.label_cells import labels_of_cells
from lumora.data.label_files import find_labels
from lumora.data.labels import listed, same_text
from lumora.data.layouts.base import Found, Item, Layout, Wishes
from lumora.data.listing import PICTURES, Folder, is_hidden
from lumora.data.sample import TaskName
from lumora.data.split_names import in_order, split_of
from lumora.errors import LayoutError, UnreadableError

_LABELS = ("cls", "label", "txt", "text", "json")
_MASK_WORDS = ("mask", "seg", "segmentation", "label", "annotation", "gt")
_LONGEST_LABEL = 1_000_000
"""Bytes: what is longer is no label."""


def _sees(place: Folder | Path) -> bool:
    return bool(_shards(place))


def _read(place: Folder | Path, wishes: Wishes) -> Found:
    shards = _shards(place)
    root = place.path if isinstance(place, Folder) else place.parent
    packed = [path for path in shards if path.suffix.lower() != ".tar"]
    if packed:
        raise LayoutError(
            f"{listed([p.name for p in packed], 3)}: a compressed archive has to be read from its beginning for every "
            f"picture. Unpack it to a .tar first (gunzip {packed[0].name})."
        )
    groups: dict[str | None, dict[str, _Group]] = {}
    for path in shards:
        split = split_of(re.split(r"[-_.]?\d", path.stem)[0]) or (
            split_of(path.parent.name) if path.parent != root else None
        )
        groups.setdefault(split, {}).update(_groups(path, root))
    if None in groups and len(groups) > 1:
        raise LayoutError(f"Some shards in {root} name their split and some do not; rename or move them.")
    notes: list[str] = []
    read = {split: _items(list(of.values()), wishes, notes) for split, of in groups.items()}
    task = next(iter(read.values()))[0]
    parts = {split: items for split, (_, items) in read.items()}
    parts = in_order(parts)
    words = f"{len(shards)} WebDataset shard{'s' * (len(shards) > 1)}"
    if None not in parts:
        words += f"; in {', '.join(map(str, parts))}"
    labels = find_labels(Folder(root))
    return Found(words, task, parts, labels, notes=tuple(dict.fromkeys(notes)), root=root)


@dataclass
class _Group:
    """The members of one sample, by ending."""

    key: str
    members: dict[str, InArchive] = field(default_factory=dict[str, InArchive])

    def picture(self) -> InArchive | None:
        """The picture: the one whose ending has no other word in it."""
        fits = [e for e in self.members if f".{e.rpartition('.')[2]}" in PICTURES and not _is_mask(e)]
        return self.members[min(fits, key=len)] if fits else None

    def mask(self) -> InArchive | None:
        """The mask: `seg.png`, `mask.png`."""
        return next((member for ending, member in self.members.items() if _is_mask(ending)), None)

    def label(self) -> Any:
        """What the small member says that holds the label."""
        ending = next((e for e in _LABELS if e in self.members and self.members[e].length <= _LONGEST_LABEL), None)
        if ending is None:
            return None
        text = self.members[ending].read().decode("utf-8", errors="replace").strip()
        if ending == "json":
            return _label_in(text, self.members[ending].name)
        return int(text) if re.fullmatch(r"\d+", text) else text or None


def _is_mask(ending: str) -> bool:
    *words, kind = ending.lower().split(".")
    return (bool(words) and words[-1] in _MASK_WORDS and f".{kind}" in PICTURES) or kind in ("mask", "seg")


def _label_in(text: str, name: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnreadableError(f"{name} is not valid JSON: {error}.") from error
    if not isinstance(value, Mapping):
        return value
    keys = ("label", "labels", "class", "cls", "category", "class_name", "tags")
    return next((value[key] for key in keys if key in value), None)


def _groups(path: Path, root: Path) -> dict[str, _Group]:
    """The samples of an archive. Reads the headers of its members, not the members."""
    groups: dict[str, _Group] = {}
    shard = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                place = PurePosixPath(same_text(member.name))
                if not member.isreg() or any(is_hidden(part) for part in place.parts):
                    continue
                stem, _, ending = place.name.partition(".")
                key = f"{shard}/{(place.parent / stem).as_posix()}"
                content = InArchive(path, member.name, member.offset_data, member.size)
                groups.setdefault(key, _Group(key)).members[ending.lower()] = content
    except OSError as error:
        raise unopened(path, error) from error
    except tarfile.TarError as error:
        raise UnreadableError(
            f"{path} is not a tar archive that can be read: {error}. Copy or download it again."
        ) from error
    return groups


def _items(groups: Sequence[_Group], wishes: Wishes, notes: list[str]) -> tuple[TaskName, list[Item]]:
    with_picture = [(group, picture) for group in groups if (picture := group.picture()) is not None]
    if len(with_picture) < len(groups):
        notes.append(f"{len(groups) - len(with_picture):,} names in the shards have no picture and are left out.")
    if wishes.task == "segmentation" or (wishes.task is None and any(group.mask() for group, _ in with_picture)):
        found = [Item(group.key, picture, mask=mask) for group, picture in with_picture if (mask := group.mask())]
        if len(found) < len(with_picture):
            notes.append(f"{len(with_picture) - len(found):,} pictures in the shards have no mask and are left out.")
        return "segmentation", found
    labels = labels_of_cells([group.label() for group, _ in with_picture], wishes.task, notes)
    several = any(isinstance(label, tuple) for label in labels)
    items = [Item(group.key, picture, label) for (group, picture), label in zip(with_picture, labels, strict=True)]
    return wishes.task or ("multilabel" if several else "classification"), items


def _shards(place: Folder | Path) -> Sequence[Path]:
    if isinstance(place, Path):
        return [place] if _is_shard(place) else []
    inside = [inner for name, inner in place.folders.items() if split_of(name) is not None]
    return [path for folder in (place, *inside) for path in folder.files.values() if _is_shard(path)]


def _is_shard(path: Path) -> bool:
    return path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst"))


WEBDATASET = Layout("webdataset", "tar archives in WebDataset's way", _sees, _read, files=True)
