"""Pascal VOC: `JPEGImages`, `SegmentationClass`, and lists of names in `ImageSets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumora.data import known_labels
from lumora.data.content import InFile, unopened
from lumora.data.label_files import LabelList, find_labels
from lumora.data.labels import Labels, listed, same_text
from lumora.data.layouts.base import Found, Item, Layout, Wishes
from lumora.data.listing import Folder
from lumora.data.split_names import in_order, split_of
from lumora.errors import LayoutError

_MASKS = ("SegmentationClass", "SegmentationClassRaw", "SegmentationClassPNG")


def _sees(folder: Folder) -> bool:
    return "JPEGImages" in folder.folders and ("ImageSets" in folder.folders or _mask_folder(folder) is not None)


def _read(folder: Folder, wishes: Wishes) -> Found:
    notes: list[str] = []
    masks = _mask_folder(folder)
    if masks is None or wishes.task in ("multilabel", "classification"):
        return _classes(folder, notes)
    pictures = _by_stem(folder.folders["JPEGImages"])
    of = _by_stem(masks)
    lists = _lists(folder, "Segmentation")
    parts: dict[str | None, list[Item]] = {}
    for split, names in (lists or {None: sorted(of)}).items():
        missing = [name for name in names if name not in pictures or name not in of]
        if missing:
            notes.append(
                f"{len(missing):,} names listed for {split or 'all'} have no picture or no mask and are left out: "
                f"{listed(missing, 3)}."
            )
        parts[split] = [
            Item(folder.key(pictures[name]), InFile(pictures[name]), mask=InFile(of[name]))
            for name in names
            if name in pictures and name in of
        ]
    labels = find_labels(folder)
    if labels is None:
        labels = LabelList(known_labels.voc())
        notes.append("The labels are Pascal VOC's 21; if these are others, say labels=… .")
    words = f"Pascal VOC segmentation{_named(lists)}"
    return Found(words, "segmentation", parts, labels, notes=tuple(notes), root=folder.path)


def _classes(folder: Folder, notes: list[str]) -> Found:
    """The classes that each picture shows: `ImageSets/Main/cat_train.txt` has a 1 behind the names that show one."""
    sets = folder.folders.get("ImageSets")
    main = sets.folders.get("Main") if sets else None
    if main is None:
        raise LayoutError(
            f"{folder.path} has JPEGImages, but neither masks in SegmentationClass nor lists in ImageSets/Main: there "
            "are no labels."
        )
    pictures = _by_stem(folder.folders["JPEGImages"])
    shown: dict[str, dict[str, list[str]]] = {}
    classes: set[str] = set()
    for name, path in main.files.items():
        label, _, ending = name.removesuffix(".txt").rpartition("_")
        split = split_of(ending)
        if not label or split is None:
            continue
        classes.add(label)
        for line in _lines(path):
            picture, _, sign = line.partition(" ")
            known = shown.setdefault(split, {}).setdefault(picture, [])
            if sign.strip() == "1":
                known.append(label)
    parts: dict[str | None, list[Item]] = {
        split: [
            Item(folder.key(pictures[name]), InFile(pictures[name]), tuple(labels))
            for name, labels in sorted(names.items())
            if name in pictures
        ]
        for split, names in in_order(shown).items()
    }
    labels = LabelList(Labels(tuple(sorted(classes))))
    words = f"Pascal VOC classes{_named(shown)}"
    return Found(words, "multilabel", parts, labels, notes=tuple(notes), root=folder.path)


def _lists(folder: Folder, kind: str) -> dict[str, Sequence[str]]:
    """The names in each split's list; `trainval` repeats the others."""
    sets = folder.folders.get("ImageSets")
    lists = (sets.folders.get(kind) or sets) if sets else None
    found = {split: _lines(path) for name, path in (lists.files if lists else {}).items() if (split := _split(name))}
    return in_order(found)


def _split(name: str) -> str | None:
    return split_of(name.removesuffix(".txt")) if name.endswith(".txt") else None


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unopened(path, error) from error
    except UnicodeDecodeError as error:
        raise LayoutError(f"{path} is not text in UTF-8: {error.reason}. Save the list as UTF-8.") from error
    return [same_text(line.strip()) for line in text.splitlines() if line.strip()]


def _mask_folder(folder: Folder) -> Folder | None:
    return next((f for name in _MASKS if (f := folder.folders.get(name)) and f.pictures), None)


def _by_stem(folder: Folder) -> dict[str, Path]:
    return {name.rpartition(".")[0]: path for name, path in folder.pictures.items()}


def _named(splits: object) -> str:
    names = list(splits) if isinstance(splits, dict) else []
    return f"; in {', '.join(map(str, names))}" if names else ""


VOC = Layout("voc", "Pascal VOC (JPEGImages, SegmentationClass, ImageSets)", _sees, _read)
