"""ADE20K's scene parsing: `images/training`, `annotations/training`, 0 for what is no object."""

from __future__ import annotations

from dataclasses import replace

from lumora.data import known_labels
from lumora.data.label_files import LabelList, find_labels
from lumora.data.layouts.base import Found, Item, Layout, Wishes
from lumora.data.layouts.image_masks import IMAGE_MASKS
from lumora.data.listing import Folder
from lumora.errors import LayoutError


def _sees(folder: Folder) -> bool:
    pair = folder.folders.get("images"), folder.folders.get("annotations")
    return all(f is not None and {"training", "validation"} <= set(f.folders) for f in pair)


def _read(folder: Folder, wishes: Wishes) -> Found:
    if wishes.task == "classification":
        return _scenes(folder)
    found = IMAGE_MASKS.read(folder, wishes)
    # Its own list has synonyms ("door, double door"): the first is what the models' configurations have.
    labels = find_labels(folder)
    if labels is None or labels.where.endswith("objectInfo150.txt"):
        labels = LabelList(known_labels.ade20k())
    note = "In ADE20K's masks 0 is no object and 1 is the first class; if not so here, say reduce_labels=False."
    return replace(
        found,
        words=f"ADE20K scene parsing; in {', '.join(str(split) for split in found.parts)}",
        labels=labels,
        reduce_labels=True,
        notes=(*found.notes, note),
    )


def _scenes(folder: Folder) -> Found:
    """The kind of scene of each picture, from `sceneCategories.txt`."""
    path = folder.files.get("sceneCategories.txt")
    if path is None:
        raise LayoutError(f"{folder.path} has no sceneCategories.txt, which tells the kinds of scenes.")
    lines = (line.split() for line in path.read_text(encoding="utf-8-sig").splitlines())
    scenes = {line[0]: line[1] for line in lines if len(line) >= 2}
    found = IMAGE_MASKS.read(folder, Wishes())
    parts: dict[str | None, list[Item]] = {
        split: [
            Item(item.key, item.content, scenes[stem])
            for item in items
            if (stem := item.key.rpartition("/")[2].rpartition(".")[0]) in scenes
        ]
        for split, items in found.parts.items()
    }
    return Found("ADE20K scene categories", "classification", parts, notes=found.notes, root=folder.path)


ADE20K = Layout("ade20k", "ADE20K (images/training, annotations/training)", _sees, _read)
