"""Pictures and their masks in two folders, or side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lumora.data.content import InFile
from lumora.data.label_files import find_labels
from lumora.data.labels import listed
from lumora.data.layouts.base import Found, Item, Layout, Wishes
from lumora.data.listing import Folder, key_of
from lumora.data.split_names import in_order, split_folders, split_of
from lumora.errors import LayoutError

_PICTURE_NAMES = re.compile(
    r"(original|input|source|rgb|color|png|jpg|jpeg)?(images?|imgs?|pictures?|photos?|pics?|inputs?|frames?|rgb|x)"
)
_MASK_NAMES = re.compile(
    r"(indexed|label|semantic|seg|png|image)?(masks?|labels?|annotations?|annots?|anns?|segmentations?|segs?|gts?|"
    r"groundtruths?|labelmaps?|labelimages?|targets?|trimaps?|segmentationmaps?|segmentationmasks?|segmentationclass|y)"
    r"(semantic|indexed|binary|png|raw|aug)?"
)
_MASK_ENDING = re.compile(r"[-_. ](masks?|labels?|labelids?|segmentations?|segs?|gts?|annotations?|annots?|l)$", re.I)
_PICTURE_ENDING = re.compile(r"[-_. ](images?|imgs?|pictures?|photos?|sat|rgb)$", re.I)

Pair = tuple[Folder, Folder]


def _sees(folder: Folder) -> bool:
    return bool(_pairs(folder)) or bool(_mixed(folder))


def _read(folder: Folder, wishes: Wishes) -> Found:
    notes: list[str] = []
    parts: dict[str | None, list[Item]] = {}
    if pairs := _pairs(folder):
        for split, found in pairs.items():
            parts[split] = [item for pictures, masks in found for item in _paired(pictures, masks, notes)]
        (pictures, masks), *_ = next(iter(pairs.values()))
        words = f"pictures in {_place(pictures, folder)}, masks in {_place(masks, folder)}"
    else:
        for split, folders in _mixed(folder).items():
            parts[split] = [item for inner in folders for item in _side_by_side(inner, notes)]
        words = "pictures and masks side by side"
    if not any(parts.values()):
        raise LayoutError(
            f"No picture in {folder.path} has a mask. A mask has its picture's name, with or without an ending like "
            f"_mask (1.jpg: 1.png or 1_mask.png). {' '.join(notes)}"
        )
    named = [split for split in parts if split is not None]
    words += f"; in {', '.join(named)}" if named else ""
    return Found(words, "segmentation", parts, find_labels(folder), notes=tuple(notes), root=folder.path)


def _pairs(folder: Folder) -> Mapping[str | None, list[Pair]]:
    """The folders of pictures and of masks, for each split."""
    if pair := _pair(folder):
        return _split_pair(*pair)
    splits, _ = split_folders(folder)
    within: dict[str | None, list[Pair]] = {
        split: [pair for inner in folders if (pair := _pair(inner))] for split, folders in splits.items()
    }
    if within and all(within.values()):
        return within
    return _beside(folder)


def _pair(folder: Folder) -> Pair | None:
    """The folder of pictures and that of masks in a folder."""
    pictures = [f for name, f in folder.folders.items() if _PICTURE_NAMES.fullmatch(_plain(name)) and f.has_pictures()]
    masks = [f for name, f in folder.folders.items() if _MASK_NAMES.fullmatch(_plain(name)) and f.has_pictures()]
    if len(pictures) == 1 and len(masks) == 1 and pictures != masks:
        return pictures[0], masks[0]
    return None


def _split_pair(pictures: Folder, masks: Folder) -> Mapping[str | None, list[Pair]]:
    """`images/train` and `masks/train`, or both undivided."""
    of_pictures, _ = split_folders(pictures)
    of_masks, _ = split_folders(masks)
    both = [split for split in of_pictures if split in of_masks]
    if not both or pictures.pictures or masks.pictures:
        return {None: [(pictures, masks)]}
    return {
        split: list(zip(of_pictures[split], of_masks[split], strict=len(of_pictures[split]) == len(of_masks[split])))
        for split in both
    }


def _beside(folder: Folder) -> Mapping[str | None, list[Pair]]:
    """`train` and `train_labels`, as in CamVid."""
    found: dict[str | None, list[Pair]] = {}
    for name, inner in folder.folders.items():
        if (split := split_of(name)) is None:
            continue
        for other, masks in folder.folders.items():
            ending = other.removeprefix(name)
            if ending not in (other, "") and _MASK_NAMES.fullmatch(_plain(ending)):
                found.setdefault(split, []).append((inner, masks))
    return in_order(found)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]+", "", name.lower())


def _paired(pictures: Folder, masks: Folder, notes: list[str]) -> list[Item]:
    """Pictures with the masks of the same name."""
    of = _by_stem(masks, _MASK_ENDING)
    items: list[Item] = []
    alone: list[str] = []
    taken: set[Path] = set()
    for path in pictures.all_pictures():
        stem = _stem(path, pictures)
        mask = of.get(stem) or of.get(_PICTURE_ENDING.sub("", stem))
        if mask is None:
            alone.append(pictures.key(path))
            continue
        taken.add(mask)
        items.append(Item(pictures.key(path), InFile(path), mask=InFile(mask)))
    spare = [masks.key(path) for path in masks.all_pictures() if path not in taken]
    _note_alone(alone, spare, notes)
    return items


def _note_alone(pictures: list[str], masks: list[str], notes: list[str]) -> None:
    if pictures:
        notes.append(f"{len(pictures):,} pictures have no mask and are left out: {listed(pictures, 3)}.")
    if masks:
        notes.append(f"{len(masks):,} masks have no picture and are left out: {listed(masks, 3)}.")


def _by_stem(folder: Folder, ending: re.Pattern[str]) -> dict[str, Path]:
    """Files by their path without ending; one with the picture's very name comes before one with `_mask`."""
    paths = list(folder.all_pictures())
    found = {ending.sub("", _stem(path, folder)): path for path in paths}
    return found | {_stem(path, folder): path for path in paths}


def _stem(path: Path, folder: Folder) -> str:
    return key_of(path, folder.path).rpartition(".")[0]


def _mixed(folder: Folder) -> Mapping[str | None, list[Folder]]:
    """Folders where half of the files are the masks of the other half, for each split."""
    if _is_mixed(folder):
        return {None: [folder]}
    splits, _ = split_folders(folder)
    found = {split: [inner for inner in folders if _is_mixed(inner)] for split, folders in splits.items()}
    return {split: folders for split, folders in found.items() if folders}


def _is_mixed(folder: Folder) -> bool:
    stems = {name.rpartition(".")[0] for name in folder.pictures}
    masks = {stem for stem in stems if _MASK_ENDING.search(stem)}
    return bool(masks) and 3 * len(masks) >= len(stems) and any(_pictures_stem(stem, stems) for stem in masks)


def _pictures_stem(mask: str, stems: set[str]) -> str | None:
    base = _MASK_ENDING.sub("", mask)
    return next((s for s in (base, *(f"{base}{e}" for e in ("_sat", "_image", "_img", "_rgb"))) if s in stems), None)


def _side_by_side(folder: Folder, notes: list[str]) -> list[Item]:
    paths = {name.rpartition(".")[0]: path for name, path in folder.pictures.items()}
    masks = {stem: path for stem, path in paths.items() if _MASK_ENDING.search(stem)}
    stems = set(paths) - set(masks)
    of = {found: path for stem, path in masks.items() if (found := _pictures_stem(stem, stems))}
    _note_alone(sorted(stems - set(of)), [s for s in masks if _pictures_stem(s, stems) is None], notes)
    return [Item(folder.key(paths[stem]), InFile(paths[stem]), mask=InFile(of[stem])) for stem in sorted(of)]


def _place(folder: Folder, root: Folder) -> str:
    return key_of(folder.path, root.path)


IMAGE_MASKS = Layout("images-masks", "a folder of pictures and a folder of masks", _sees, _read)
