"""The metrics of semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lumora.data.labels import ignore_of
from lumora.errors import MetricError
from lumora.ops.upsampled import upsampled_argmax
from lumora.tasks.metrics.base import Metrics, Scores
from lumora.tasks.metrics.boundary import Boundaries
from lumora.tasks.metrics.confusion import Confusion
from lumora.tasks.metrics.counter import Counter, mean

CSURKA = 0.0075
"""The tolerance of the boundary F-score's paper: 0.75 % of the diagonal."""


class SegmentationMetrics(Metrics):
    """Mean IoU, mean and overall accuracy; IoU and accuracy of each class; boundary F-score if asked for.

    Labels that equal `ignore` count nowhere, whatever was predicted there; if it is not given, it is `Labels.ignore` of
    as many labels. Classes that occur neither in labels nor in predictions are left out of means. `boundary` is the
    tolerance of the boundary F-score as a share of the picture's diagonal (usually `CSURKA`); it takes about as long as
    all the rest, so it is not computed unless given.
    """

    main: ClassVar[str] = "mean_iou"
    logs_classes: ClassVar[bool] = True

    def __init__(self, names: Sequence[str], ignore: int | None = None, boundary: float | None = None) -> None:
        self.names = tuple(names)
        ignore = ignore_of(len(names)) if ignore is None else ignore
        self._confusion = Confusion(len(names), ignore)
        self._boundaries = None if boundary is None else Boundaries(len(names), ignore, boundary)

    @property
    def counters(self) -> Sequence[Counter]:
        """Everything that is remembered."""
        return (self._confusion,) if self._boundaries is None else (self._confusion, self._boundaries)

    def update(self, logits: Tensor, targets: Tensor | Sequence[Tensor]) -> None:
        """Count logits (N, K, h, w) and masks (N, H, W), or a list of masks of different sizes.

        Logits are upsampled to the masks' sizes; only the largest of each pixel is looked for.
        """
        if logits.ndim != 4 or logits.shape[1] != len(self.names) or len(logits) != len(targets):
            raise MetricError(
                f"Expected logits (N, {len(self.names)}, h, w), one channel for each class, and N masks; got logits "
                f"{tuple(logits.shape)} and {len(targets)} masks."
            )
        for picture, mask in zip(logits, targets, strict=True):
            size = (int(mask.shape[-2]), int(mask.shape[-1]))
            self.update_masks(upsampled_argmax(picture[None], size)[0], mask)

    def update_masks(self, predicted: Tensor, mask: Tensor) -> None:
        """Count a predicted mask and the right one: class ids (H, W)."""
        if predicted.shape != mask.shape:
            raise MetricError(f"A predicted mask is {tuple(predicted.shape)}, its label {tuple(mask.shape)}.")
        self.to(predicted.device)
        mask = mask.to(predicted.device)
        self._confusion.update(predicted, mask)
        if self._boundaries is not None:
            self._boundaries.update(predicted, mask)

    def confusion(self) -> Tensor:
        """Of how many pixels of each class (row) each class (column) was said: (K, K); ignored ones are left out."""
        return self._confusion.checked()

    def said_and_meant(self) -> tuple[Tensor, Tensor]:
        """Of how many pixels each class was said, and of how many it was meant; ignored ones are left out."""
        counts = self._confusion.checked()
        return counts.sum(0), counts.sum(1)

    def scores(self) -> Scores:
        """What this process has counted."""
        counts = self._confusion.checked()
        both, meant, said = counts.diagonal().tolist(), counts.sum(1).tolist(), counts.sum(0).tolist()
        rows: dict[str, dict[str, float]] = {}
        for name, b, m, s in zip(self.names, both, meant, said, strict=True):
            if m + s > 0:
                rows[name] = {"iou": b / (m + s - b)}
            if m > 0:
                rows[name]["accuracy"] = b / m
        overall = {
            "mean_iou": _mean_of(rows, "iou"),
            "mean_accuracy": _mean_of(rows, "accuracy"),
            "overall_accuracy": sum(both) / sum(meant),
        }
        if self._boundaries is not None:
            for name, score in zip(self.names, self._boundaries.scores(), strict=True):
                if score is not None:
                    rows[name]["boundary_f"] = score
            overall["boundary_f"] = _mean_of(rows, "boundary_f")
        return Scores(overall, rows)


def _mean_of(rows: dict[str, dict[str, float]], measure: str) -> float:
    return mean([row[measure] for row in rows.values() if measure in row])
