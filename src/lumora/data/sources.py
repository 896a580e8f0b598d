"""Opening data, wherever and however they lie."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumora.data.columns import check_roles
from lumora.data.duplicates import groups, near_duplicates, stored_fingerprints
from lumora.data.label_files import label_list
from lumora.data.labels import IGNORE, Labels
from lumora.data.layouts import ELSEWHERE, LAYOUTS, Found, Item, Layout, Wishes
from lumora.data.listing import PICTURES, Folder, contents_in_words, opened
from lumora.data.mask_values import coding_of
from lumora.data.masks import Coding
from lumora.data.reading import Limits
from lumora.data.sample import Sample, Source, StoredSample, TaskName
from lumora.data.splits import Divided
from lumora.data.targets import check, classes, target
from lumora.errors import DataError, LayoutError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_TASKS = ("classification", "multilabel", "segmentation")


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
    if task is not None and task not in _TASKS:
        raise DataError(f"task is {task!r}; it may be {', '.join(map(repr, _TASKS))}.")
    check_roles(columns or {})
    shares = _shares(validation, test)
    limits = limits or Limits()
    wishes = Wishes(
        task=task,
        labels=None if labels is None else label_list(labels),
        ignore=(ignore,) if isinstance(ignore, int) else tuple(ignore),
        reduce_labels=reduce_labels,
        columns=columns or {},
        subset=subset,
        limits=limits,
    )
    chosen, place = layout_of(data, layout, columns=bool(columns))
    found = chosen.read(place, wishes)
    if not any(found.parts.values()):
        raise DataError(f"{data} holds no samples. {' '.join(found.notes)}".strip())
    if task is not None and task != found.task and not (task == "multilabel" and found.task == "classification"):
        raise LayoutError(
            f"{data} was read as {found.words}, which gives {found.task} and not {task}. Choose another layout: "
            f"{_layout_names()}."
        )
    drawing = _Drawing(shares, seed, near_duplicates_together, _store(data), limits)
    return _source(found, task or found.task, wishes, chosen, drawing)


@dataclass(frozen=True)
class _Drawing:
    """How to draw the splits that the data do not have."""

    shares: Mapping[str, float]
    seed: int
    together: bool
    store: Path
    limits: Limits

    def groups(self, samples: Sequence[Sample]) -> Sequence[int]:
        """For each sample the number of the first one that shows the same."""
        contents = [sample.content for sample in samples if isinstance(sample, StoredSample)]
        if not self.together:
            return range(len(samples))
        return groups(len(contents), near_duplicates(stored_fingerprints(contents, self.store, self.limits)))


def _source(found: Found, task: TaskName, wishes: Wishes, chosen: Layout, drawing: _Drawing) -> Source:
    if task == "segmentation":
        labels, coding, notes = coding_of(found, wishes)
        parts = {split: _with_masks(items, coding, wishes.limits) for split, items in found.parts.items()}
    else:
        labels, parts, notes = _with_targets(found, task, wishes)
    if task != "segmentation" or len(labels) > 1:
        _check_several(found, task, labels)
    splits, said = _splits(parts, drawing)
    how = f"Read as {task} from {found.words} (layout {chosen.name!r}); for another say task=… or layout=… ."
    return Source(task, labels, splits, found.words, (how, *found.notes, *notes, *said))


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
    parts: Mapping[str | None, Sequence[Sample]], drawing: _Drawing
) -> tuple[Mapping[str, Sequence[Sample]], list[str]]:
    """The given splits, and what is drawn where they lack."""
    given = {split: samples for split, samples in parts.items() if split is not None}
    _check_keys(parts)
    if None not in parts and ("validation" in given or "train" not in given or not drawing.shares):
        return given, []
    if None in parts and not drawing.shares:
        return {"train": parts[None]}, []
    samples = parts[None] if None in parts else given.pop("train")
    shares = {split: share for split, share in drawing.shares.items() if split not in given}
    drawn = ", ".join(f"{share:.0%} for {split}" for split, share in shares.items())
    note = (
        f"Drawn from {'train' if given else 'all samples'} by a hash of each name (seed {drawing.seed}): {drawn}; near "
        "duplicates stay together. Other parts: validation=…, test=…, seed=… ."
    )
    return Divided(samples, shares, drawing.seed, drawing.groups, given), [note]


def _check_keys(parts: Mapping[str | None, Sequence[Sample]]) -> None:
    for split, samples in parts.items():
        seen: set[str] = set()
        for sample in samples:
            if sample.key in seen:
                where = f" in {split}" if split else ""
                raise DataError(f"{sample.key} is there more than once{where}; take one of the rows out.")
            seen.add(sample.key)


def _shares(validation: float, test: float) -> dict[str, float]:
    shares = {"validation": validation, "test": test}
    if not all(0 <= share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise DataError(
            f"validation={validation} and test={test} leave nothing to learn from; give parts from 0 to 1, together "
            "below 1."
        )
    return {split: share for split, share in shares.items() if share > 0}


def layout_of(data: Any, name: str | None, *, columns: bool = False) -> tuple[Layout, Any]:
    """The layout that reads the data, and the data as it wants them."""
    known = {each.name: each for each in (*LAYOUTS, *ELSEWHERE)}
    if name is not None and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise LayoutError(f"There is no layout {name!r}; {hint}There are {_layout_names()}.")
    place = _place(data)
    if isinstance(place, Folder | Path):
        fitting = [each for each in LAYOUTS if each.files or isinstance(place, Folder)]
        if columns and name is None:
            fitting = [each for each in fitting if each.columns]
    else:
        fitting = [each for each in ELSEWHERE if each.sees(place)]
    if name is not None:
        if known[name] not in fitting:
            names = ", ".join(repr(each.name) for each in fitting)
            raise LayoutError(f"{data} cannot be read as {known[name].looks_like}; it may be {names}.")
        if not known[name].sees(place) and not (columns and known[name].columns):
            raise _other_than_asked(data, place, known[name])
        return known[name], place
    for each in fitting:
        if each.sees(place):
            return each, place
    if columns and fitting:  # a table whose columns have to be named cannot be seen
        return fitting[-1], place
    raise _nothing_seen(place)


def _other_than_asked(data: Any, place: Any, layout: Layout) -> LayoutError:
    there = f" It has {contents_in_words(place)}." if isinstance(place, Folder) else ""
    hint = " Name the columns (columns={'picture': …, 'label': …})." if layout.columns else ""
    return LayoutError(
        f"{data} does not look like {layout.looks_like}.{there}{hint} Leave out layout={layout.name!r} to have it "
        "looked at in every way."
    )


def _place(data: Any) -> Any:
    """A folder, a file, a name, or the dataset itself."""
    if not isinstance(data, str | Path):
        return data
    path = Path(data).expanduser()
    if path.is_dir():
        return opened(path)
    if path.is_file():
        return path
    if isinstance(data, str) and ELSEWHERE[1].sees(data) and not path.suffix:
        return data
    raise DataError(f"There is no file or folder {data}.{_near(path)}")


def _near(path: Path) -> str:
    """What the missing one may have been meant to be."""
    parent = path.parent
    if not parent.is_dir():
        return f" There is not even {parent}."
    near = difflib.get_close_matches(path.name, [each.name for each in parent.iterdir()], n=1)
    return f" Did you mean {parent / near[0]}?" if near else ""


def _nothing_seen(place: object) -> DataError:
    if isinstance(place, Folder):
        if place.pictures and not place.folders:
            return LayoutError(
                f"{place.path} has {len(place.pictures):,} pictures, but nothing that says what they show. Put the "
                "pictures of each class into a folder with the class's name, write a table (path,label), or add a "
                "folder of masks."
            )
        return LayoutError(
            f"No pictures with labels or masks were found in {place.path}: it has {contents_in_words(place)}. Pictures "
            f"end in {', '.join(sorted(PICTURES)[:6])} …; data may be {_layouts_in_words()}."
        )
    if isinstance(place, Path):
        return LayoutError(
            f"{place} is a single file that is no table or archive; give a folder, or {_layouts_in_words()}."
        )
    return LayoutError(f"A {type(place).__name__} is nothing that can be opened; give a path, a dataset, or a name.")


def _layouts_in_words() -> str:
    return "; ".join(each.looks_like for each in (*LAYOUTS, *ELSEWHERE))


def _layout_names() -> str:
    return ", ".join(repr(each.name) for each in (*LAYOUTS, *ELSEWHERE))


def _store(data: Any) -> Path:
    """Where the fingerprints of these data are kept, for the next time."""
    home = os.environ.get("LUMORA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lumora"
    name = str(Path(data).absolute()) if isinstance(data, str | Path) else str(getattr(data, "_fingerprint", "dataset"))
    return Path(home).expanduser() / "fingerprints" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npy"
