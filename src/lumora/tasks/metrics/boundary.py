"""How well the outlines of predicted regions follow those of the labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lumora.tasks.metrics.counter import ONE, Counter, fixed_point

_AT_ONCE = 8
"""Classes whose distances are found together: a bound on memory."""

_FAR = 1 << 24
"""Farther than any distance that is asked for."""


class Boundaries(Counter):
    """The boundary F-score of each class (Csurka and others, 2013), one picture at a time.

    Two outlines agree where they are at most `tolerance` apart, a share of the picture's diagonal. Of each class this
    keeps the sum of its pictures' scores and the number of pictures in which it has an outline.
    """

    def __init__(self, classes: int, ignore: int, tolerance: float) -> None:
        super().__init__(2, classes)
        self.ignore = ignore
        self.tolerance = tolerance

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count one picture: class ids (H, W)."""
        ignored = labels == self.ignore
        # What is not labelled has no outline, wherever the prediction goes on there.
        predicted = torch.where(ignored, self.ignore, predicted.long())
        labels = labels.long()
        found, wanted = _outlines(predicted, ignored), _outlines(labels, ignored)
        classes = torch.cat([predicted[found], labels[wanted]]).unique()
        reach = self.tolerance * (labels.shape[0] ** 2 + labels.shape[1] ** 2) ** 0.5
        for some in classes.split(_AT_ONCE):
            own = found & (predicted == some[:, None, None])  # (C, H, W)
            true = wanted & (labels == some[:, None, None])
            scores = _f_scores(_share(own, _near(true, reach)), _share(true, _near(own, reach)))
            self.counts[0].index_add_(0, some, fixed_point(scores))
            self.counts[1].index_add_(0, some, torch.ones_like(some))

    def scores(self) -> list[float | None]:
        """Each class's mean over its pictures; None for one that has no outline anywhere."""
        total, pictures = self.counts.tolist()
        return [t / ONE / n if n else None for t, n in zip(total, pictures, strict=True)]


def _outlines(mask: Tensor, ignored: Tensor) -> Tensor:
    """Pixels with a neighbour, beside, above or below, of another class; what is ignored is neither."""
    outline = torch.zeros_like(ignored)
    for one, other in _neighbours(mask.dim()):
        differs = (mask[one] != mask[other]) & ~ignored[one] & ~ignored[other]
        outline[one] |= differs
        outline[other] |= differs
    return outline


def _neighbours(dimensions: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    whole, first, last = slice(None), slice(None, -1), slice(1, None)
    for axis in range(dimensions):
        before, after = [whole] * dimensions, [whole] * dimensions
        before[axis], after[axis] = first, last
        yield tuple(before), tuple(after)


def _near(points: Tensor, reach: float) -> Tensor:
    """Which pixels (C, H, W) lie at most `reach` from a point, by Euclid's distance, exactly."""
    height, width = points.shape[-2:]
    x = torch.arange(width, device=points.device, dtype=torch.int32)
    # Distance to the nearest point of the same row: on the left, and, seen in a mirror, on the right.
    left = x - torch.where(points, x, -_FAR).cummax(-1).values
    right = x - torch.where(points.flip(-1), x, -_FAR).cummax(-1).values
    beside = torch.minimum(left, right.flip(-1))
    near = torch.zeros_like(points)
    for rows in range(min(int(reach), height - 1) + 1):
        close = beside <= (reach**2 - rows**2) ** 0.5
        near[:, rows:] |= close[:, : height - rows]
        near[:, : height - rows] |= close[:, rows:]
    return near


def _share(points: Tensor, near: Tensor) -> Tensor:
    """Of each class's points, the share near those of the other; 0 where there are none."""
    return (points & near).sum((1, 2)) / points.sum((1, 2)).clamp(min=1)


def _f_scores(precision: Tensor, recall: Tensor) -> Tensor:
    return 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(precision.dtype).tiny)
