"""Which mistakes of a model are likely the data's: a rule for each task, and one look more where pixels are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from lumora.tasks import Task
from lumora.tasks.label_errors import (
    UsualConfidence,
    UsualOfEachLabel,
    UsualOfPixels,
    doubtful_share,
    likely_errors_of_labels,
    likely_label_errors,
)
from lumora.tasks.worst import Judged

Again = Callable[[Sequence[Judged[Any]], Callable[[Tensor, Any], None]], None]
"""Shows the logits and targets of some pictures once more, in their order."""


class Doubts:
    """Looks at every batch beside an evaluation, and says in the end which labels and masks are doubted.

    Args:
        task: what is evaluated.
    """

    def __init__(self, task: Task[Any]) -> None:
        classes, self._ignore = len(task.labels), task.labels.ignore
        self._labels = UsualConfidence(classes) if task.name == "classification" else None
        self._each = UsualOfEachLabel(classes) if task.name == "multilabel" else None
        self._pixels = UsualOfPixels(classes, self._ignore) if task.name == "segmentation" else None

    def update(self, logits: Tensor, targets: Any) -> None:
        """Look at a batch."""
        for usual in (self._labels, self._each, self._pixels):
            if usual is not None:
                usual.update(logits, targets)

    def of(self, worst: Sequence[Judged[Any]], again: Again) -> dict[str, float]:
        """The keys of those of the worst that are doubted, the likeliest first; of masks, the share of their pixels."""
        if self._labels is not None:
            return {one.key: one.wrongness for one in likely_label_errors(worst, self._labels.of_classes())}
        if self._each is not None:
            return {one.key: one.wrongness for one in likely_errors_of_labels(worst, *self._each.of_labels())}
        assert self._pixels is not None
        usual, shares = self._pixels.of_classes(), list[float]()

        def look(logits: Tensor, targets: Any) -> None:
            shares.extend(
                doubtful_share(one, target, usual, self._ignore) for one, target in zip(logits, targets, strict=True)
            )

        again(worst, look)
        found = {one.key: share for one, share in zip(worst, shares, strict=True) if share > 0}
        return dict(sorted(found.items(), key=lambda each: -each[1]))
