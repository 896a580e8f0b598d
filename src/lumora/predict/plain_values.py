"""Predictions as plain values, with names in place of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lumora.data.labels import Labels
from lumora.tasks import LabelPrediction, MaskPrediction


def plain(prediction: LabelPrediction | MaskPrediction, labels: Labels, most: int | None = None) -> dict[str, Any]:
    """What a prediction says, as values that JSON knows.

    Of labels: those that were chosen, and how probable each is, the likeliest first. Of a mask: its size, and the
    classes in it with their pixels and shares, the largest first; the pixels themselves stay in `prediction.mask`.

    Args:
        prediction: what a predictor gave.
        labels: the predictor's.
        most: probabilities of the likeliest so many labels only, and of those that were chosen.

    >>> plain(LabelPrediction((1,), torch.tensor([0.25, 0.75])), Labels(("cat", "dog")))
    {'labels': ['dog'], 'probabilities': {'dog': 0.75, 'cat': 0.25}}
    >>> plain(MaskPrediction(torch.tensor([[1, 1], [0, 1]])), Labels(("sky", "sea")))["classes"]
    [{'label': 'sea', 'pixels': 3, 'share': 0.75}, {'label': 'sky', 'pixels': 1, 'share': 0.25}]
    """
    if isinstance(prediction, LabelPrediction):
        return _of_labels(prediction, labels, most)
    counts = torch.bincount(prediction.mask.flatten().long(), minlength=len(labels))
    return areas(counts, prediction.mask.shape, labels)


def areas(counts: Tensor, size: Sequence[int], labels: Labels) -> dict[str, Any]:
    """A mask's size, and the classes in it with their pixels and shares, the largest first."""
    height, width = size
    classes = [
        {"label": labels.names[i], "pixels": int(counts[i]), "share": int(counts[i]) / (height * width)}
        for i in counts.argsort(descending=True, stable=True).tolist()
        if counts[i]
    ]
    return {"height": height, "width": width, "classes": classes}


def _of_labels(prediction: LabelPrediction, labels: Labels, most: int | None) -> dict[str, Any]:
    probabilities = prediction.probabilities.tolist()
    if most is not None:
        most = max(most, len(prediction.chosen))
    order = prediction.probabilities.argsort(descending=True).tolist()[:most]
    return {
        "labels": [labels.names[i] for i in prediction.chosen],
        "probabilities": {labels.names[i]: probabilities[i] for i in order},
    }
