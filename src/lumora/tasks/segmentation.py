"""Semantic segmentation: a class to each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lumora.data.sample import Sample, TaskName
from lumora.errors import DataError
from lumora.ops.upsampled import upsampled_argmax, upsampled_cross_entropy, upsampled_cross_entropy_and_dice
from lumora.tasks.base import Constant, Mistake, Others, Task, logits_of, weight_of_all
from lumora.tasks.drawing import with_legend
from lumora.tasks.metrics import Metrics, SegmentationMetrics

_SURE = 20.0
"""A logit that leaves no doubt."""
_STRIDE = 4
"""Of the logits of constant predictors: those of most models are a quarter of the picture's size."""


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """What a model says of a picture's pixels."""

    mask: Tensor
    """Class ids (H, W), `uint8` or, above 256 classes, `int32`; on the CPU."""


@dataclass(frozen=True)
class Segmentation(Task[MaskPrediction]):
    """A class to each pixel.

    Logits may be of any size; loss, metrics and predictions take them to the mask's or picture's without ever holding
    full-size logits.

    >>> from lumora.data import Labels
    >>> task = Segmentation(Labels(("sky", "sea")))
    >>> logits = torch.tensor([[[[2.0], [0.0]], [[0.0], [2.0]]]])  # (1, 2, 2, 1)
    >>> task.predict(logits, [(4, 2)])[0].mask
    tensor([[0, 0],
            [0, 0],
            [1, 1],
            [1, 1]], dtype=torch.uint8)
    """

    name: ClassVar[TaskName] = "segmentation"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    dice: float = 0.0
    """How much the Dice loss counts beside the cross entropy."""
    boundary: float | None = None
    """The tolerance of the boundary F-score as a share of the diagonal; None leaves it out."""

    def target(self, sample: Sample) -> Tensor:
        """The mask of class ids (H, W)."""
        mask = sample.mask()
        if mask is None:
            raise DataError(f"{sample.key} should have a mask; it has none.")
        return mask

    def losses(self, outputs: Any, targets: Tensor, others: Others | None = None) -> Tensor:
        """Cross entropy of the upsampled logits with masks (N, H, W), and Dice where asked for."""
        logits = logits_of(outputs)
        weight = None if self.class_weights is None else logits.new_tensor(self.class_weights, dtype=torch.float32)
        ignore, smoothing = self.labels.ignore, self.label_smoothing
        if not self.dice:
            return upsampled_cross_entropy(
                logits, targets, ignore_index=ignore, weight=weight, label_smoothing=smoothing
            )[None]
        add_up = None if others is None else others.add_up
        entropy, dice = upsampled_cross_entropy_and_dice(
            logits, targets, ignore_index=ignore, weight=weight, label_smoothing=smoothing, add_up=add_up
        )
        if (
            others is not None
        ):  # it is the whole batch's already: weighing it as a part must leave its gradient as it is
            dice = dice.detach() + (dice - dice.detach()) / others.share
        return torch.stack([entropy, self.dice * dice])

    @property
    def sums(self) -> int:
        """Of Dice, three for each class."""
        return 3 * len(self.labels) if self.dice else 0

    def weights(self, targets: Tensor) -> Tensor:
        """The weights of the pixels that count, and of Dice the number of pictures."""
        pixels = weight_of_all(targets[targets != self.labels.ignore].long(), self.class_weights)
        return torch.cat([pixels, pixels.new_tensor([float(len(targets))])]) if self.dice else pixels

    def new_metrics(self) -> Metrics:
        """Mean IoU, accuracies, each class's own, boundary F-score where asked for."""
        return SegmentationMetrics(self.labels.names, self.labels.ignore, self.boundary)

    def predict(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[MaskPrediction]:
        """The mask of each picture, at its own size."""
        kind = torch.uint8 if len(self.labels) <= 256 else torch.int32
        pictures = logits_of(outputs).detach().split(1)
        masks = (upsampled_argmax(logits, size, dtype=kind)[0] for logits, size in zip(pictures, sizes, strict=True))
        return [MaskPrediction(mask.cpu()) for mask in masks]

    def draw(self, picture: Tensor, prediction: MaskPrediction) -> Tensor:
        """The picture seen through its mask, and a legend to the right."""
        return with_legend(picture, prediction.mask, self.labels)

    def wrongness(self, prediction: MaskPrediction, target: Tensor) -> float | None:
        """What the mean IoU of the classes in the picture lacks to 1."""
        classes, said, meant = len(self.labels), prediction.mask.long(), target.long()
        counting = (meant >= 0) & (meant < classes) & (meant != self.labels.ignore)
        said, meant = said[counting], meant[counting]
        if torch.equal(said, meant):
            return None
        right, of_said, of_meant = (
            torch.bincount(ids, minlength=classes) for ids in (said[said == meant], said, meant)
        )
        either = of_said + of_meant - right
        return 1 - float((right.double() / either)[either > 0].mean())

    def logits_of(self, answers: Tensor) -> Tensor:
        """The logits of a model that gives these masks (N, H, W) and is sure of them; where they are no class, any."""
        classes, answers = len(self.labels), answers.long()
        ids = torch.where((answers >= 0) & (answers < classes), answers, 0)
        logits = torch.zeros(len(ids), classes, *ids.shape[1:], device=ids.device)
        return logits.scatter_(1, ids[:, None], _SURE)

    def constants(self, targets: Tensor) -> list[Constant]:
        """Those that see only the first, the last, or the most frequent of the classes that occur."""
        targets = targets.long()
        counting = targets[(targets >= 0) & (targets < len(self.labels)) & (targets != self.labels.ignore)]
        counts = torch.bincount(counting, minlength=len(self.labels)).tolist()
        present = [i for i, count in enumerate(counts) if count]
        if not present:
            return []
        chosen = {present[0], present[-1], max(present, key=counts.__getitem__)}
        return [self._always(i, counts[i] / sum(counts), len(present)) for i in sorted(chosen)]

    def _always(self, answer: int, share: float, present: int) -> Constant:
        def logits_for(targets: Tensor) -> Tensor:
            return self.logits_of(torch.full_like(targets[:, ::_STRIDE, ::_STRIDE], answer, dtype=torch.int64))

        return Constant(
            f"sees {self.labels.names[answer]!r} everywhere",
            logits_for,
            {"mean_iou": share / present, "mean_accuracy": 1 / present, "overall_accuracy": share},
        )

    @property
    def mistakes(self) -> Sequence[Mistake]:
        """Ids that are one off, masks that lie otherwise than their pictures."""
        lies = "A transform moves the masks and not the pictures, or the other way round."
        return (
            Mistake(
                "ids that are one too low",
                self._shifted(-1),
                "The labels are shifted twice: they reach the model reduced (do_reduce_labels), and the metric reduces "
                "them again. Pass reduce_labels=False to the metric.",
            ),
            Mistake(
                "ids that are one too high",
                self._shifted(1),
                "Either the labels are reduced and should not be, or the metric counts classes from 1.",
            ),
            Mistake("masks mirrored left to right", lambda masks: masks.flip(-1), lies),
            Mistake("masks upside down", lambda masks: masks.flip(-2), lies),
            Mistake("masks with rows and columns exchanged", _exchanged, lies),
        )

    def _shifted(self, by: int) -> Callable[[Tensor], Tensor]:
        return lambda masks: torch.where(masks.long() == self.labels.ignore, self.labels.ignore, masks.long() + by)


def _exchanged(masks: Tensor) -> Tensor:
    """Rows for columns where pictures are square; elsewhere that could not go unnoticed."""
    return masks.mT if masks.shape[-1] == masks.shape[-2] else masks
