"""What several bundles say of the same pictures: side by side, and where they disagree."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lumora.data.labels import Labels
from lumora.data.sample import TaskName
from lumora.errors import DataError, InputError, TooLargeError
from lumora.paths import at_home
from lumora.predict.ahead import ahead, in_batches
from lumora.predict.files import Content, encoded_drawing, encoded_mask
from lumora.predict.pictures import AtHand, Picture
from lumora.predict.plain_values import plain
from lumora.predict.predictor import Prediction, Predictor
from lumora.predict.shrinking import at_most, of_its_size
from lumora.predict.telling import bare
from lumora.predict.to_files import LIKELIEST, unusable
from lumora.tasks import LabelPrediction, MaskPrediction
from lumora.tasks.drawing import overlay, with_caption, with_legend

_HIGHEST = 720
"""Larger pictures are drawn smaller."""
_RED = (230, 30, 30)


def named(bundles: Sequence[str]) -> list[str]:
    """Short names of bundles, each another, also where upper and lower case are the same: of a run's bundle, the run's.

    >>> named(["runs/foxes/bundle", "runs/otters/bundle", "me/foxes"])
    ['foxes', 'otters', 'foxes-2']
    """
    found: dict[str, str] = {}
    for bundle in bundles:
        path = Path(os.path.normpath(at_home(bundle).absolute()))
        first = path.parent.name if path.name == "bundle" and path.parent.name else path.name
        choices = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(2)))
        name = next(name for name in choices if name.casefold() not in found)
        found[name.casefold()] = name
    return list(found.values())


def disagreement(predictions: Sequence[Prediction], *, several: bool = False) -> float:
    """How far predictions of one picture are apart, from 0 to 1.

    Of masks: the share of pixels of which they do not all say the same. Of one label: how far the probabilities are
    apart (half the sum of the differences), of several labels the share of those on which they differ; of the two
    predictions that differ most.

    Args:
        predictions: of one task.
        several: whether a picture may have several labels.

    >>> disagreement([MaskPrediction(torch.tensor([[1, 1]])), MaskPrediction(torch.tensor([[1, 0]]))])
    0.5
    """
    if isinstance(predictions[0], MaskPrediction):
        return _share(differing(predictions))
    pairs = itertools.combinations([one for one in predictions if isinstance(one, LabelPrediction)], 2)
    return max((_apart(one, other, several) for one, other in pairs), default=0.0)


def differing(predictions: Sequence[Prediction]) -> Tensor:
    """Where masks do not all say the same: (H, W) of truth values."""
    masks = [one.mask for one in predictions if isinstance(one, MaskPrediction)]
    return torch.stack([mask != masks[0] for mask in masks]).any(0)


def _share(truths: Tensor) -> float:
    """How much of a mask is true; numbers of 64 bits for each pixel would take eight times its memory."""
    return int(truths.count_nonzero()) / truths.numel()


def _apart(one: LabelPrediction, other: LabelPrediction, several: bool) -> float:
    if several:
        return len(set(one.chosen) ^ set(other.chosen)) / len(one.probabilities)
    return float((one.probabilities - other.probabilities).abs().sum()) / 2


@dataclass(frozen=True, eq=False)
class Compared:
    """Predictions of several bundles as the content of files.

    Args:
        predictors: of one task, with the same labels.
        overlays: whether pictures are drawn.
    """

    predictors: Mapping[str, Predictor]
    overlays: bool = True

    def __post_init__(self) -> None:
        (first, one), *others = self.predictors.items()
        for name, other in others:
            if (other.task, other.labels.names) != (one.task, one.labels.names):
                raise InputError(
                    f"{first} is for {one.task} with {_in_words(one.labels)}, and {name} for {other.task} with "
                    f"{_in_words(other.labels)}; only bundles with the same labels in the same order can be compared."
                )

    @property
    def labels(self) -> Labels:
        """Those of all."""
        return next(iter(self.predictors.values())).labels

    @property
    def _task(self) -> TaskName:
        return next(iter(self.predictors.values())).task

    def contents(self, pictures: Iterable[Picture], batch_size: int) -> Iterator[tuple[Picture, Content]]:
        """Each picture with what is to be written of it. A picture is decoded once for all bundles."""
        for (picture, *_), content in ahead(self._content, self._results(pictures, batch_size), batch_size):
            yield picture, content

    def _results(
        self, pictures: Iterable[Picture], batch_size: int
    ) -> Iterator[tuple[Picture, Picture, list[Prediction | DataError]]]:
        """Each picture, its pixels, and what every bundle says of it."""
        for group in in_batches(ahead(_at_hand, pictures, 2 * batch_size), batch_size):
            given = [pixels for _, pixels in group]
            said = [[result for _, result in one.each(given, batch_size)] for one in self.predictors.values()]
            yield from (
                (picture, pixels, list(results)) for (picture, pixels), *results in zip(group, *said, strict=True)
            )

    def _content(self, found: tuple[Picture, Picture, list[Prediction | DataError]]) -> Content:
        picture, pixels, results = found
        predictions = [result for result in results if not isinstance(result, DataError)]
        if error := next((result for result in results if isinstance(result, DataError)), None):
            return unusable(picture, error)
        said = dict(zip(self.predictors, predictions, strict=True))
        line: dict[str, Any] = {
            "picture": picture.key,
            "disagreement": disagreement(predictions, several=self._task == "multilabel"),
            "bundles": {name: plain(one, self.labels, LIKELIEST) for name, one in said.items()},
        }
        masks = {n: encoded_mask(one.mask, self.labels) for n, one in said.items() if isinstance(one, MaskPrediction)}
        drawn = encoded_drawing(self.drawn(pixels.picture(), said)) if self.overlays and _can_be_drawn(pixels) else None
        return Content(line, overlay=drawn, masks=masks)

    def drawn(self, picture: Tensor, said: Mapping[str, Prediction]) -> Tensor:
        """A picture with what every bundle says of it side by side, and where they disagree: `uint8` (3, H, W)."""
        if isinstance(next(iter(said.values())), LabelPrediction):
            return with_caption(
                at_most(picture, _HIGHEST), [f"{name}: {self._words(one)}" for name, one in said.items()]
            )
        masks = {name: one.mask for name, one in said.items() if isinstance(one, MaskPrediction)}
        small = at_most(picture, _HIGHEST)
        parts = {"picture": small}
        parts |= {name: with_legend(small, of_its_size(mask, small), self.labels) for name, mask in masks.items()}
        apart = differing(list(said.values()))
        grey = small.float().mean(0, keepdim=True).expand(3, -1, -1).to(torch.uint8)
        # What does not differ is left out, as what counts nowhere is in masks.
        where = torch.where(of_its_size(apart.to(torch.uint8), small) > 0, 0, 1)
        parts[f"disagreement {_share(apart):.1%}"] = overlay(grey, where, [_RED], 0.8)
        return torch.cat([with_caption(part, [text]) for text, part in parts.items()], dim=2)

    def _words(self, prediction: Prediction) -> str:
        assert isinstance(prediction, LabelPrediction)
        chosen = [f"{self.labels.names[i]} {float(prediction.probabilities[i]):.0%}" for i in prediction.chosen]
        return ", ".join(chosen) or "no label"


def _at_hand(picture: Picture) -> Picture:
    """The picture decoded, unless it is to be read in parts or cannot be read; that is found again later."""
    try:
        return AtHand(picture.key, picture.picture())
    except TooLargeError:
        return picture
    except DataError as error:
        bare(error)
        return picture


def _can_be_drawn(picture: Picture) -> bool:
    return isinstance(picture, AtHand)


def _in_words(labels: Labels) -> str:
    return f"{len(labels)} labels ({', '.join(labels.names[:4])}{', …' if len(labels) > 4 else ''})"
