"""What the data are: how many pictures of what, how large, and what they look like."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from lumora.data import Sample, Source
from lumora.data.labels import Colour
from lumora.errors import DataError
from lumora.training.report.examining import spread
from lumora.training.report.thumbnails import Thumbnail, thumbnail, thumbnail_under
from lumora.training.surveying import size_of

_MEASURED = 200
"""Pictures whose size is read, and masks that are counted, of a split."""
_SHOWN = 60
"""Thumbnails of classes at most."""
_LOOKED_THROUGH = 20_000
"""Samples among which one of each class is looked for."""
_LONGEST = 120
_MASKED = 6
_LONGEST_MASKED = 200


@dataclass(frozen=True)
class ClassCount:
    """How much there is of a class."""

    name: str
    colour: Colour | None
    counts: tuple[float, ...]
    """For each split: pictures, or a mask's share of pixels."""
    share: float
    """Of the largest class's count in the first split: the length of its bar."""


@dataclass(frozen=True)
class Example:
    """A picture of the data."""

    name: str
    """The class that it shows, or its key."""
    picture: Thumbnail
    truth: Thumbnail | None = None


@dataclass(frozen=True)
class DataSummary:
    """What there is to say of the data."""

    layout: str
    splits: tuple[tuple[str, int], ...]
    classes: tuple[ClassCount, ...]
    counted: tuple[tuple[str, int], ...]
    """Of splits that were not counted whole: how many masks were."""
    smallest: tuple[int, int] | None
    """Height and width; None where no picture could be measured."""
    usual: tuple[int, int] | None
    largest: tuple[int, int] | None
    examples: tuple[Example, ...]
    without_example: int
    """Classes of which no picture is shown."""


def data_summary(source: Source) -> DataSummary:
    """Look at the data. Decodes a few pictures and masks, as many however many there are."""
    splits = {split: samples for split, samples in source.splits.items() if len(samples)}
    sizes = list(_sizes(next(iter(splits.values()), ())))
    masked = source.task == "segmentation"
    examples = list(_masked_examples(source) if masked else _class_examples(source))
    return DataSummary(
        layout=source.layout,
        splits=tuple((split, len(samples)) for split, samples in splits.items()),
        classes=_class_counts(source, splits),
        counted=tuple((split, _MEASURED) for split, some in splits.items() if masked and len(some) > _MEASURED),
        smallest=min(sizes, key=_area, default=None),
        usual=(int(median(h for h, _ in sizes)), int(median(w for _, w in sizes))) if sizes else None,
        largest=max(sizes, key=_area, default=None),
        examples=tuple(examples),
        without_example=0 if masked else len(source.labels) - len(examples),
    )


# --- numbers ----------------------------------------------------------------------------------------------------------


def _sizes(samples: Sequence[Sample]) -> Iterator[tuple[int, int]]:
    for place in spread(len(samples), _MEASURED):
        try:
            yield size_of(samples[place])
        except DataError:
            continue


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _class_counts(source: Source, splits: dict[str, Sequence[Sample]]) -> tuple[ClassCount, ...]:
    labels = source.labels
    masked = source.task == "segmentation"
    counting = _pixel_shares if masked else _picture_counts
    columns = [counting(samples, len(labels), labels.ignore).tolist() for samples in splits.values()]
    largest = max(columns[0], default=0) if columns else 0
    return tuple(
        ClassCount(
            name,
            labels.palette()[i] if masked else None,
            tuple(column[i] for column in columns),
            columns[0][i] / largest if largest else 0.0,
        )
        for i, name in enumerate(labels.names)
    )


def _picture_counts(samples: Sequence[Sample], classes: int, ignore: int) -> Tensor:
    """How many pictures have each label; no picture is read."""
    counts = torch.zeros(classes, dtype=torch.int64)
    for sample in samples:
        for i in sample.target if isinstance(sample.target, tuple) else (sample.target,):
            if i is not None:
                counts[i] += 1
    return counts


def _pixel_shares(samples: Sequence[Sample], classes: int, ignore: int) -> Tensor:
    """Of the pixels that count, each class's share; in some masks, evenly spread over all."""
    counts = torch.zeros(classes, dtype=torch.int64)
    for place in spread(len(samples), _MEASURED):
        try:
            mask = samples[place].mask()
        except DataError:
            continue
        if mask is not None:
            ids = mask.flatten().long()
            counts += torch.bincount(ids[(ids >= 0) & (ids < classes) & (ids != ignore)], minlength=classes)
    return counts.double() / max(1, int(counts.sum()))


# --- pictures ---------------------------------------------------------------------------------------------------------


def _class_examples(source: Source) -> Iterator[Example]:
    """The first picture that can be read of each class."""
    found: dict[int, Thumbnail] = {}
    wanted = min(_SHOWN, len(source.labels))
    for sample in itertools.islice(source.splits.get("train", ()), _LOOKED_THROUGH):
        if len(found) == wanted:
            break
        ids = sample.target if isinstance(sample.target, tuple) else (sample.target,)
        new = [i for i in ids if i is not None and i not in found]
        if new and (picture := _picture(sample)) is not None:
            found[new[0]] = thumbnail(picture, _LONGEST)
    for i in sorted(found):
        yield Example(source.labels.names[i], found[i])


def _masked_examples(source: Source) -> Iterator[Example]:
    """Some pictures beside their masks."""
    samples = source.splits.get("train", ())
    for place in spread(len(samples), _MASKED):
        sample = samples[place]
        try:
            picture, mask = sample.picture(), sample.mask()
        except DataError:
            continue
        if mask is not None:
            truth = thumbnail_under(picture, mask, source.labels, _LONGEST_MASKED)
            yield Example(sample.key, thumbnail(picture, _LONGEST_MASKED), truth)


def _picture(sample: Sample) -> Tensor | None:
    try:
        return sample.picture()
    except DataError:
        return None
