"""Pictures beside what they show and what the model sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lumora.data import Sample
from lumora.data.labels import Colour, Labels
from lumora.errors import DataError
from lumora.tasks import MaskPrediction
from lumora.tasks.worst import Judged
from lumora.training.report.thumbnails import Thumbnail, thumbnail, thumbnail_under

_LONGEST = 320
_NAMED = 8


@dataclass(frozen=True)
class Shade:
    """A class in a picture and its colour there."""

    name: str
    colour: Colour
    meant: float
    """Its share of the pixels that count."""
    said: float


@dataclass(frozen=True)
class Overlay:
    """A picture, the truth, and what was said."""

    key: str
    iou: float
    picture: Thumbnail
    truth: Thumbnail
    prediction: Thumbnail
    shades: tuple[Shade, ...]
    """The classes that are seen most."""
    more: int
    """How many others there are."""


def overlays(judged: Sequence[Judged[MaskPrediction]], samples: Sequence[Sample], labels: Labels) -> list[Overlay]:
    """One for each; pictures that cannot be read any more are left out."""
    found: list[Overlay] = []
    for one in judged:
        try:
            picture = samples[one.place].picture()
        except DataError:
            continue
        shades = _shades(one.target, one.prediction.mask, labels)
        found.append(
            Overlay(
                one.key,
                1 - one.wrongness,
                thumbnail(picture, _LONGEST),
                thumbnail_under(picture, one.target, labels, _LONGEST),
                thumbnail_under(picture, one.prediction.mask, labels, _LONGEST),
                tuple(shades[:_NAMED]),
                max(0, len(shades) - _NAMED),
            )
        )
    return found


def _shades(truth: Tensor, said: Tensor, labels: Labels) -> list[Shade]:
    """The classes of truth and prediction, the largest first."""
    palette = labels.palette()
    counting = truth.long() != labels.ignore
    shares = [_shares(mask[counting], len(labels)) for mask in (truth, said)]
    either = torch.maximum(*shares)
    order = either.argsort(descending=True, stable=True).tolist()
    return [
        Shade(labels.names[i], palette[i], float(shares[0][i]), float(shares[1][i])) for i in order if either[i] > 0
    ]


def _shares(ids: Tensor, classes: int) -> Tensor:
    return torch.bincount(ids.long(), minlength=classes).double() / max(1, ids.numel())
