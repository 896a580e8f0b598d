"""The samples that were predicted worst: in words, and drawn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lumora.data.labels import Labels
from lumora.data.sample import Sample
from lumora.predict.shrinking import at_most, of_its_size
from lumora.tasks import MaskPrediction, Task
from lumora.tasks.drawing import overlay, with_caption, with_legend
from lumora.tasks.worst import Judged

_HIGHEST = 480
"""Larger pictures are drawn smaller."""


def plain_worst(judged: Judged[Any], labels: Labels) -> dict[str, Any]:
    """What is wrong with a prediction, as values that JSON knows.

    Of labels: those that were meant, those that were said, and how probable each of them seemed. Of a mask: the mean
    IoU of its classes.

    >>> from lumora.tasks import LabelPrediction
    >>> said = LabelPrediction((0,), torch.tensor([0.75, 0.25]))
    >>> plain_worst(Judged("1.png", 0, 0.5, said, torch.tensor(1)), Labels(("cat", "dog")))
    {'sample': '1.png', 'wrongness': 0.5, 'meant': {'dog': 0.25}, 'said': {'cat': 0.75}}
    """
    values: dict[str, Any] = {"sample": judged.key, "wrongness": judged.wrongness}
    if isinstance(judged.prediction, MaskPrediction):
        return {**values, "mean_iou": 1 - judged.wrongness}
    likely = judged.prediction.probabilities.tolist()
    ids = {"meant": _meant(judged.target), "said": judged.prediction.chosen}
    return {**values, **{word: {labels.names[i]: likely[i] for i in some} for word, some in ids.items()}}


def drawn_worst(task: Task[Any], judged: Judged[Any], sample: Sample) -> Tensor:
    """A sample with what was said of it and what was meant: `uint8` (3, H, W)."""
    picture = sample.picture()
    if isinstance(judged.prediction, MaskPrediction):
        return _masks(task.labels, picture, judged)
    meant = ", ".join(task.labels.names[i] for i in _meant(judged.target)) or "no label"
    return with_caption(task.draw(at_most(picture, _HIGHEST), judged.prediction), [f"labelled: {meant}"])


def _masks(labels: Labels, picture: Tensor, judged: Judged[MaskPrediction]) -> Tensor:
    """The picture, under its mask, and under the predicted one with a legend, side by side."""
    picture = at_most(picture, _HIGHEST)
    meant, said = (of_its_size(mask, picture) for mask in (judged.target, judged.prediction.mask))
    parts = {
        "picture": picture,
        "labelled": overlay(picture, meant, labels.palette(), ignore=labels.ignore),
        f"predicted, mean IoU {1 - judged.wrongness:.2f}": with_legend(picture, said, labels),
    }
    return torch.cat([with_caption(part, [text]) for text, part in parts.items()], dim=2)


def _meant(target: Tensor) -> list[int]:
    """The ids of the labels that a sample has."""
    return [int(target)] if target.dim() == 0 else (target > 0).nonzero().flatten().tolist()
