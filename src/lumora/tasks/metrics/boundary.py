"""How well the outlines of predicted regions follow those of the labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from lumora.tasks.metrics.counter import ONE, Counter, fixed_point

_NONE = -1
"""In a map of outlines: the pixel lies on none."""


class Boundaries(Counter):
    """The boundary F-score of each class (Csurka and others, 2013), one picture at a time.

    Two outlines agree where they are at most `tolerance` apart, a share of the picture's diagonal. Of each class this
    keeps the sum of its pictures' scores and the number of pictures in which it has an outline. The time grows with the
    length of the outlines and the square of the tolerance, not with the number of classes.
    """

    def __init__(self, classes: int, ignore: int, tolerance: float) -> None:
        super().__init__(2, classes)
        self.ignore = ignore
        self.tolerance = tolerance

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count one picture: class ids (H, W)."""
        labels = labels.long()  # eight bits take -100 for 156
        ignored = (labels == self.ignore) | (labels < 0) | (labels >= self.counts.shape[1])
        # What is not labelled has no outline, wherever the prediction goes on there.
        predicted = torch.where(ignored, self.ignore, predicted.long())
        said, meant = _outlines(predicted, ignored), _outlines(labels, ignored)
        reach = self.tolerance * (labels.shape[0] ** 2 + labels.shape[1] ** 2) ** 0.5
        precision, of_said = self._matched(said, meant, reach)
        recall, of_meant = self._matched(meant, said, reach)
        scores = 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(precision.dtype).tiny)
        self.counts += torch.stack([fixed_point(scores), ((of_said + of_meant) > 0).long()])

    def _matched(self, outlines: Tensor, others: Tensor, reach: float) -> tuple[Tensor, Tensor]:
        """Of each class's outline, the share that lies near the other one of its class; and its length."""
        classes = self.counts.shape[1]
        ids = outlines[outlines != _NONE]
        lengths = torch.bincount(ids, minlength=classes)
        near = torch.bincount(ids[_near(outlines, others, reach)], minlength=classes)
        return near / lengths.clamp(min=1), lengths

    def scores(self) -> list[float | None]:
        """Each class's mean over its pictures; None for one that has no outline anywhere."""
        total, pictures = self.counts.tolist()
        return [t / ONE / n if n else None for t, n in zip(total, pictures, strict=True)]


def _outlines(mask: Tensor, ignored: Tensor) -> Tensor:
    """The class of each pixel with a neighbour (beside, above, below) of another class; what is ignored is neither."""
    outline = torch.zeros_like(ignored)
    for one, other in _neighbours(mask.dim()):
        differs = (mask[one] != mask[other]) & ~ignored[one] & ~ignored[other]
        outline[one] |= differs
        outline[other] |= differs
    return torch.where(outline, mask, _NONE)


def _neighbours(dimensions: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    whole, first, last = slice(None), slice(None, -1), slice(1, None)
    for axis in range(dimensions):
        before, after = [whole] * dimensions, [whole] * dimensions
        before[axis], after[axis] = first, last
        yield tuple(before), tuple(after)


def _near(outlines: Tensor, others: Tensor, reach: float) -> Tensor:
    """Whether each pixel of the outlines, in order, has one of its class among the others at most `reach` away."""
    rows = min(int(reach), outlines.shape[0] - 1)
    columns = min(int(reach), outlines.shape[1] - 1)
    others = F.pad(others, (columns, columns, rows, rows), value=_NONE)
    y, x = (outlines != _NONE).nonzero(as_tuple=True)
    ids = outlines[y, x]
    near = torch.zeros_like(ids, dtype=torch.bool)
    for up in range(-rows, rows + 1):
        aside = min(int((reach**2 - up**2) ** 0.5), columns)
        across = torch.arange(columns - aside, columns + aside + 1, device=ids.device)
        near |= (others[(y + rows + up)[:, None], x[:, None] + across] == ids[:, None]).any(1)
    return near
