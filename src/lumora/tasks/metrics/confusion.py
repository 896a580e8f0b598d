"""How often each class was taken for each other."""

from __future__ import annotations

import torch
from torch import Tensor

from lumora.errors import MetricError
from lumora.tasks.metrics.counter import Counter


class Confusion(Counter):
    """A confusion matrix of pixels: rows are the classes of the labels, columns those of the predictions.

    One row more counts pixels whose label is no class and not to be ignored either.
    """

    def __init__(self, classes: int, ignore: int) -> None:
        super().__init__(classes + 1, classes)
        self.classes = classes
        self.ignore = ignore

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count class ids of one shape."""
        k = self.classes
        if predicted.numel() and (found := [int(i) for i in predicted.aminmax()]) and not 0 <= found[0] <= found[1] < k:
            raise MetricError(f"Predicted ids are {found[0]} to {found[1]}; with {k} classes they are 0 to {k - 1}.")
        labels = labels.long()
        row = torch.where((labels >= 0) & (labels < k), labels, k)
        row = torch.where(labels == self.ignore, k + 1, row)
        cells = torch.bincount((row * k + predicted.long()).flatten(), minlength=(k + 2) * k)
        self.counts += cells[: (k + 1) * k].view(k + 1, k)

    def checked(self) -> Tensor:
        """The square matrix, on the CPU; an error if it cannot be trusted."""
        counts = self.counts.cpu()
        if strange := int(counts[-1].sum()):
            raise MetricError(
                f"{strange} pixels have a label that is neither one of the {self.classes} classes (0 to "
                f"{self.classes - 1}) nor {self.ignore}, which is ignored. Do the labels start at 1, or are there more "
                "classes than names?"
            )
        if not counts.any():
            raise MetricError(
                f"No pixel was counted: every label is {self.ignore}, which is ignored, or nothing was evaluated."
            )
        return counts[:-1]
