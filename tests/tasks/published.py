"""Mean IoU as it is published with mmsegmentation and with evaluate's `mean_iou`, in plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def reduced(labels: Array) -> Array:
    """Class 0 becomes 255, which counts nowhere, and all others one less; what was 255 stays so."""
    return np.where((labels == 0) | (labels == 255), 255, labels - 1)


def mean_iou(
    predictions: list[Array], references: list[Array], num_labels: int, ignore_index: int, reduce_labels: bool = False
) -> dict[str, Any]:
    both, said, meant = (np.zeros(num_labels) for _ in range(3))
    for predicted, labels in zip(predictions, references, strict=True):
        labels = reduced(np.asarray(labels).astype(np.int64)) if reduce_labels else np.asarray(labels).astype(np.int64)
        counts = labels != ignore_index
        predicted, labels = np.asarray(predicted)[counts], labels[counts]
        for c in range(num_labels):
            both[c] += np.sum((predicted == c) & (labels == c))
            said[c] += np.sum(predicted == c)
            meant[c] += np.sum(labels == c)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy = both / (said + meant - both), both / meant
        return {
            "mean_iou": float(np.nanmean(iou)),
            "mean_accuracy": float(np.nanmean(accuracy)),
            "overall_accuracy": float(both.sum() / meant.sum()),
            "per_category_iou": iou,
            "per_category_accuracy": accuracy,
        }
