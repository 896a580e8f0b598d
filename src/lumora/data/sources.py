"""Opening data, wherever and however they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumora.data.corrections import with_corrections
from lumora.data.duplicates import groups, near_duplicates, stored_fingerprints
from lumora.data.labels import IGNORE, Labels
from lumora.data.layouts import NAMED, Found, Item, Layout, Wishes
from lumora.data.locating import layout_of, read
from lumora.data.mask_values import coding_of
from lumora.data.masks import Coding
from lumora.data.places import cache_home
from lumora.data.reading import Limits
from lumora.data.sample import Sample, Source, StoredSample, TaskName
from lumora.data.splits import Divided
from lumora.data.targets import check, classes, target
from lumora.data.wishes import wishes_of
from lumora.errors import DataError, LayoutError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def open_source(
    data: str | Path | Dataset | DatasetDict,
    *,
    task: TaskName | None = None,
    layout: str | None = None,
    labels: Labels | Sequence[str] | Mapping[Any, Any] | str | Path | None = None,
    ignore: int | Sequence[int] = IGNORE,
    reduce_labels: bool | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    subset: str | None = None,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    near_duplicates_together: bool = True,
    limits: Limits | None = None,
) -> Source:
    """Find out how data lie, and list their samples; no picture is decoded until it is asked for.

    Corrections that lie beside the data are made, and told; see `lumora.data.corrections`.

    Splits that the data have are used as they are. Without any, or with a train and no validation split, samples are
    drawn: see `lumora.data.splits`. That reads every picture once, when the first drawn split is asked for.

    Args:
        data: a folder, a table, an archive, a dataset at hand, or the name of one on the Hub.
        task: `"classification"`, `"multilabel"` or `"segmentation"`, if the data leave a choice.
        layout: the name of the layout, if the data look like several; the error for a wrong name lists them.
        labels: names in the order of their ids, `{number: name}`, a file, `"voc"` or `"ade20k"`.
        ignore: the number or numbers in masks that count nowhere.
        reduce_labels: whether 0 in masks counts nowhere and 1 is the first class; the default is what the layout says.
        columns: which columns hold what, as `{"picture": …, "label": …, "mask": …, "split": …}`.
        subset: the subset of a dataset of the Hub.
        validation: the part that is drawn for validation.
        test: the part that is drawn for a test.
        seed: another seed draws other splits.
        near_duplicates_together: keep pictures that show the same in one split; without it, no picture is
            read for drawing.
        limits: what is refused before it is decoded.
    """
    wishes = wishes_of(
        task=task,
        layout=layout,
        labels=labels,
        ignore=ignore,
        reduce_labels=reduce_labels,
        columns=columns,
        subset=subset,
        limits=limits,
        validation=validation,
        test=test,
        seed=seed,
        near_duplicates_together=near_duplicates_together,
    )
    chosen, place = layout_of(data, wishes)
    return source_of(data, chosen, read(data, chosen, place, wishes), wishes)


def source_of(data: object, layout: Layout, found: Found, wishes: Wishes) -> Source:
    """A source of what a layout found. Looks at a few masks; no other picture is decoded."""
    task = _task(data, found, wishes)
    if task == "segmentation":
        labels, coding, notes = coding_of(found, wishes)
        parts = {split: _with_masks(items, coding, wishes.limits) for split, items in found.parts.items()}
    else:
        labels, parts, notes = _with_targets(found, task, wishes)
    _check_several(found, task, labels)
    splits, said = _splits(parts, wishes, _Twins(_store(data), wishes))
    another = "give --task, --layout (task=, layout=) for another."
    how = f"Read as {task} from {found.words} (layout {layout.name!r}); {another}"
    splits, corrected = with_corrections(splits, task, labels, data, parts.values())
    said += [corrected] if corrected else []
    return Source(task, labels, splits, found.words, (how, *found.notes, *notes, *said), corrected)


def _task(data: object, found: Found, wishes: Wishes) -> TaskName:
    """The task that was asked for, if what was found serves it."""
    asked = wishes.task or found.task
    if asked != found.task and (asked, found.task) != ("multilabel", "classification"):
        raise LayoutError(
            f"{data} was read as {found.words}, which gives {found.task} and not {asked}. Choose another layout: "
            f"{', '.join(map(repr, NAMED))}."
        )
    return asked


@dataclass(frozen=True)
class _Twins:
    """Finds the samples that show the same."""

    store: Path
    """Where fingerprints are kept."""
    wishes: Wishes

    def groups(self, samples: Sequence[Sample]) -> Sequence[int]:
        """For each sample the number of the first one that shows the same."""
        contents = [sample.content for sample in samples if isinstance(sample, StoredSample)]
        if not self.wishes.near_duplicates_together:
            return range(len(samples))
        prints = stored_fingerprints(contents, self.store, self.wishes.limits)
        return groups(len(contents), near_duplicates(prints))


def _with_masks(items: Sequence[Item], coding: Coding, limits: Limits) -> list[Sample]:
    return [StoredSample(item.key, item.content, None, item.mask, coding, limits) for item in items]


def _with_targets(
    found: Found, task: TaskName, wishes: Wishes
) -> tuple[Labels, dict[str | None, list[Sample]], list[str]]:
    labels, ids = classes(found, wishes)
    several = task == "multilabel"
    targets = {split: [target(item, ids, several) for item in items] for split, items in found.parts.items()}
    notes = check(labels, targets)
    parts: dict[str | None, list[Sample]] = {
        split: [
            StoredSample(item.key, item.content, of, limits=wishes.limits)
            for item, of in zip(items, targets[split], strict=True)
        ]
        for split, items in found.parts.items()
    }
    return labels, parts, notes


def _check_several(found: Found, task: TaskName, labels: Labels) -> None:
    if task == "classification" and len(labels) < 2:
        raise DataError(
            f"There is only one class, {labels.names[0]!r} ({found.words}): there is nothing to tell apart. Give the "
            "folder above it if that has the other classes, or add pictures of what it is not."
        )


def _splits(
    parts: Mapping[str | None, Sequence[Sample]], wishes: Wishes, twins: _Twins
) -> tuple[Mapping[str, Sequence[Sample]], list[str]]:
    """The given splits, and what is drawn where they lack."""
    given = {split: samples for split, samples in parts.items() if split is not None}
    shares = {split: share for split, share in wishes.shares.items() if split not in given}
    _check_keys(parts)
    if None not in parts and ("validation" in given or "train" not in given or not shares):
        return given, []
    if None in parts and not shares:
        return {"train": parts[None]}, []
    samples = parts[None] if None in parts else given.pop("train")
    drawn = ", ".join(f"{share:.0%} for {split}" for split, share in shares.items())
    together = "; near duplicates stay together" if wishes.near_duplicates_together else ""
    note = (
        f"Drawn from {'train' if given else 'all samples'} by a hash of each name (seed {wishes.seed}): {drawn}"
        f"{together}. Other parts: validation=…, test=…, seed=… ."
    )
    return Divided(samples, shares, wishes.seed, twins.groups, given), [note]


def _check_keys(parts: Mapping[str | None, Sequence[Sample]]) -> None:
    for split, samples in parts.items():
        seen: set[str] = set()
        for sample in samples:
            if sample.key in seen:
                where = f" in {split}" if split else ""
                raise DataError(f"{sample.key} is there more than once{where}; take one of the rows out.")
            seen.add(sample.key)


def _store(data: Any) -> Path:
    """Where the fingerprints of these data are kept, for the next time."""
    name = str(Path(data).absolute()) if isinstance(data, str | Path) else str(getattr(data, "_fingerprint", "dataset"))
    kept = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return cache_home() / "fingerprints" / f"{kept}.npy"
