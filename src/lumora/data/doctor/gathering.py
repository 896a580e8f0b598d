"""From data in any layout to records; what cannot be made out becomes a problem and not the end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lumora.data.content import Content, InFile
from lumora.data.doctor.records import Drawn, Record, Records, name_of
from lumora.data.labels import Labels, same_text
from lumora.data.layouts import Found, Item, Wishes
from lumora.data.listing import PICTURES, Folder, is_hidden
from lumora.data.locating import layout_of, read
from lumora.data.mask_values import coding_of
from lumora.data.masks import Coding
from lumora.data.reading import Limits
from lumora.data.sample import Sample, Source, StoredSample
from lumora.data.sources import source_of
from lumora.data.targets import classes
from lumora.errors import DataError

_MASK_NAME = re.compile(r"[-_. ](masks?|labels?|labelids?|segmentations?|segs?|gts?|annotations?|annots?|l)$", re.I)


def gather(data: Any, wishes: Wishes) -> Records:
    """The records of data, which are read once; no picture is decoded but a few masks."""
    if isinstance(data, Source):
        return of_source(data)
    layout, place = layout_of(data, wishes)
    try:
        found = read(data, layout, place, wishes)
    except DataError as error:
        if not isinstance(place, Folder) or not place.has_pictures():
            raise
        return _unordered(place, str(data), str(error), wishes.limits)
    records = _of_found(found, str(data) if isinstance(data, str | Path) else found.words, wishes)
    try:
        # Whatever else would stop a training.
        return replace(records, notes=source_of(data, layout, found, wishes).notes)
    except DataError as error:
        return replace(records, problems=tuple(dict.fromkeys((*records.problems, str(error)))))


def of_source(source: Source) -> Records:
    """The records of an opened source."""
    records = [_of_sample(sample, split, source) for split, samples in source.splits.items() for sample in samples]
    samples = [sample for samples in source.splits.values() for sample in samples]
    coding = next((s.coding for s in samples if isinstance(s, StoredSample) and s.coding is not None), None)
    if coding is None and source.task == "segmentation":
        coding = Coding(source.labels, (source.labels.ignore,))
    limits = next((s.limits for s in samples if isinstance(s, StoredSample)), Limits())
    paths = [path for sample in samples if (path := sample.path) is not None]
    root = Path(os.path.commonpath([path.parent for path in paths])) if len(paths) == len(samples) > 0 else None
    return Records(
        str(root or source.layout),
        source.layout,
        source.task,
        records,
        source.labels,
        coding,
        root=root,
        limits=limits,
        notes=source.notes,
    )


def _of_sample(sample: Sample, split: str, source: Source) -> Record:
    targets = sample.target if isinstance(sample.target, tuple) else (sample.target,)
    labels = tuple(source.labels.names[i] for i in targets if i is not None)
    if isinstance(sample, StoredSample):
        return Record(sample.key, split, sample.content, sample.mask_content, labels)
    mask = Drawn(sample, f"{sample.key} (mask)", is_mask=True) if source.task == "segmentation" else None
    return Record(sample.key, split, Drawn(sample, sample.key), mask, labels)


def _of_found(found: Found, data: str, wishes: Wishes) -> Records:
    given = wishes.labels or found.labels
    names = given.labels.names if given else ()
    records = [
        Record(item.key, split, item.content, item.mask, tuple(_spelled(item, names)))
        for split, items in found.parts.items()
        for item in items
    ]
    labels, coding, problems = _meaning(found, wishes)
    made = Records(
        data,
        found.words,
        wishes.task or found.task,
        records,
        labels,
        coding,
        given is None and coding is not None,
        found.root,
        wishes.limits,
        tuple(problems),
        found.notes,
    )
    return made if found.root is None else _with_the_rest(made, found.root)


def _spelled(item: Item, names: Sequence[str]) -> Iterator[str]:
    labels = item.label if isinstance(item.label, tuple) else (item.label,)
    for label in labels:
        if isinstance(label, int):
            yield names[label] if 0 <= label < len(names) else str(label)
        elif label is not None:
            yield label


def _meaning(found: Found, wishes: Wishes) -> tuple[Labels | None, Coding | None, list[str]]:
    given = wishes.labels or found.labels
    try:
        if (wishes.task or found.task) == "segmentation":
            labels, coding, _ = coding_of(found, wishes)
            return labels, coding, []
        return classes(found, wishes)[0], None, []
    except DataError as error:
        labels = given.labels if given else None
        if labels is None or found.task != "segmentation":
            return labels, None, [str(error)]
        reduce = found.reduce_labels if wishes.reduce_labels is None else wishes.reduce_labels
        return labels, Coding(labels, wishes.ignore, reduce), [str(error)]


def _unordered(place: Folder, data: str, problem: str, limits: Limits) -> Records:
    """Every picture of a folder that looks like no layout: whether they can be read is worth knowing all the same."""
    records = [Record(place.key(path), None, InFile(path)) for path in place.all_pictures()]
    made = Records(data, "no known layout", None, records, root=place.path, limits=limits, problems=(problem,))
    return replace(made, twins=tuple(_twins(place.path)))


def _with_the_rest(made: Records, root: Path) -> Records:
    """What lies beside the samples."""
    folder = Folder(root)
    pictures = {path for path in map(_path, (r.picture for r in made.records)) if path is not None}
    masks = {path for path in map(_path, (r.mask for r in made.records)) if path is not None}
    if not pictures:
        return made
    twins = list(_twins(root))
    lost = _lost_in_twins(made, root, twins, pictures | masks)
    rest = [path for path in folder.all_pictures() if path not in pictures and path not in masks]
    beside: dict[str, list[str]] = {"picture": [], "mask": [], "other": []}
    for path in rest:
        kind = _kind(path, {p.parent for p in pictures}, {p.parent for p in masks})
        beside[kind].append(name_of(InFile(path), root))
    return replace(
        made,
        records=[*made.records, *lost],
        pictures_alone=tuple(beside["picture"]),
        masks_alone=tuple(beside["mask"]),
        left_out=tuple(beside["other"]),
        twins=tuple(twins),
    )


def _path(content: Content | None) -> Path | None:
    return content.path if isinstance(content, InFile) else None


def _kind(path: Path, pictures: set[Path], masks: set[Path]) -> str:
    if not masks:
        return "other"
    if path.parent in pictures and path.parent in masks:
        return "mask" if _MASK_NAME.search(path.stem) else "picture"
    return "picture" if path.parent in pictures else "mask" if path.parent in masks else "other"


def _twins(root: Path) -> Iterator[tuple[str, ...]]:
    """Names in one folder that are the same text in other characters: é as one character, and as e and an accent."""
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for names in (folders, files):
            same: dict[str, list[str]] = {}
            for name in names:
                same.setdefault(same_text(name), []).append((Path(place) / name).relative_to(root).as_posix())
            yield from (tuple(sorted(paths)) for paths in same.values() if len(paths) > 1)


def _lost_in_twins(made: Records, root: Path, twins: Iterable[tuple[str, ...]], used: set[Path]) -> Iterator[Record]:
    """The samples of class folders that hide behind one of the same name."""
    if made.task != "classification":
        return
    splits = {record.picture.path.parent: record.split for record in made.records if record.picture.path is not None}
    for paths in twins:
        folders = [root / path for path in paths if (root / path).is_dir()]
        split = next((splits[folder] for folder in folders if folder in splits), None)
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in PICTURES and path not in used and not is_hidden(path.name):
                    # As it is written: in composed letters it would be another file's key.
                    yield Record(path.relative_to(root).as_posix(), split, InFile(path), None, (folder.name,))
