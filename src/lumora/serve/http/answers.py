"""Predictions as JSON, and masks as PNG or run lengths."""

from __future__ import annotations

import base64
import itertools
from typing import Any, Literal

import torch
from torch import Tensor

from lumora.predict.files import encoded_mask
from lumora.predict.plain_values import plain
from lumora.predict.predictor import Prediction
from lumora.serve.hosting.hosted import Hosted
from lumora.tasks import MaskPrediction

MaskForm = Literal["png", "rle", "none"]


def as_json(prediction: Prediction, hosted: Hosted, mask: MaskForm, top: int) -> dict[str, Any]:
    """What a prediction says; of a mask its classes' colours, and its pixels in the form that was asked for."""
    labels = hosted.about.labels
    said = plain(prediction, labels, top)
    if isinstance(prediction, MaskPrediction):
        colours = dict(zip(labels.names, labels.palette(), strict=True))
        said["classes"] = [{**one, "colour": f"#{bytes(colours[one['label']]).hex()}"} for one in said["classes"]]
    if isinstance(prediction, MaskPrediction) and mask == "png":
        said["mask_png"] = as_png(prediction, hosted)
    elif isinstance(prediction, MaskPrediction) and mask == "rle":
        said["mask_rle"] = run_lengths(prediction.mask)
    return said


def as_png(prediction: MaskPrediction, hosted: Hosted) -> str:
    """A mask as a PNG file in base64: its pixels are class ids, its palette the classes' colours."""
    return base64.b64encode(encoded_mask(prediction.mask, hosted.about.labels)).decode()


def run_lengths(mask: Tensor) -> list[list[int]]:
    """A mask (H, W), row by row from the top, as pairs of a class id and how many pixels in a row have it.

    >>> run_lengths(torch.tensor([[0, 0, 2], [2, 2, 1]]))
    [[0, 2], [2, 3], [1, 1]]
    """
    ids, counts = torch.unique_consecutive(mask.flatten(), return_counts=True)
    return [list(pair) for pair in zip(ids.tolist(), counts.tolist(), strict=True)]


def from_run_lengths(runs: list[list[int]], height: int, width: int) -> Tensor:
    """The mask (H, W) that run lengths stand for.

    >>> from_run_lengths([[0, 2], [2, 3], [1, 1]], 2, 3)
    tensor([[0, 0, 2],
            [2, 2, 1]])
    """
    ids = itertools.chain.from_iterable(itertools.repeat(i, count) for i, count in runs)
    return torch.tensor(list(ids)).view(height, width)
