"""Classification: one label to a picture, or any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lumora.data.sample import Sample, TaskName
from lumora.errors import DataError
from lumora.tasks.base import Constant, Mistake, Others, Task, logits_of, weight_of_all
from lumora.tasks.drawing import with_caption
from lumora.tasks.metrics import ClassificationMetrics, Metrics, MultiLabelMetrics

_SURE = 20.0
"""A logit that leaves no doubt."""
_UNKNOWN = -1
"""The id of a label that is not known."""
_DRAWN = 3
"""Labels that are written under a picture."""


@dataclass(frozen=True, eq=False)
class LabelPrediction:
    """What a model says of a picture."""

    chosen: tuple[int, ...]
    """Class ids, the most likely first."""
    probabilities: Tensor
    """Of every class (K,), on the CPU."""


@dataclass(frozen=True)
class Classification(Task[LabelPrediction]):
    """One label to each picture.

    >>> from lumora.data import Labels
    >>> task = Classification(Labels(("cat", "dog")))
    >>> task.predict(torch.tensor([[0.0, 3.0]]), [(480, 640)])[0].chosen
    (1,)
    """

    name: ClassVar[TaskName] = "classification"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def target(self, sample: Sample) -> Tensor:
        """The class id, `int64` ()."""
        if not isinstance(sample.target, int):
            raise DataError(f"{sample.key} should have one label; it has {_told(sample)}.")
        return torch.tensor(sample.target)

    def losses(self, outputs: Any, targets: Tensor, others: Others | None = None) -> Tensor:
        """Cross entropy with class ids (N,), or with shares of the classes (N, K) as Mixup makes them.

        Negative ids are not known and count nowhere.
        """
        logits = logits_of(outputs).float()
        weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        if targets.is_floating_point():
            return F.cross_entropy(logits, targets, weights, label_smoothing=self.label_smoothing)[None]
        known = targets >= 0
        ids = torch.where(known, targets.long(), _UNKNOWN)
        smoothing = self.label_smoothing
        loss = F.cross_entropy(logits, ids, weights, ignore_index=_UNKNOWN, label_smoothing=smoothing)
        return torch.where(known.any(), loss, 0.0)[None]  # the mean of none would be NaN

    def weights(self, targets: Tensor) -> Tensor:
        """Of class ids, the weights of those that are known; of shares, the number of pictures."""
        if targets.is_floating_point():
            return super().weights(targets)
        ids = targets[targets >= 0].long()
        return weight_of_all(ids, self.class_weights)

    def new_metrics(self) -> Metrics:
        """Accuracy, top-5 accuracy, macro-F1, calibration error."""
        return ClassificationMetrics(self.labels.names)

    def predict(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[LabelPrediction]:
        """The likeliest label of each picture."""
        likely = logits_of(outputs).detach().float().softmax(1).cpu()
        return [LabelPrediction((int(row.argmax()),), row.clone()) for row in likely]  # which hold on to no batch

    def draw(self, picture: Tensor, prediction: LabelPrediction) -> Tensor:
        """The picture, and below it the likeliest labels."""
        best = prediction.probabilities.topk(min(_DRAWN, len(self.labels)))
        shown = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return with_caption(picture, [_line(self.labels.names[i], p) for i, p in shown])

    def wrongness(self, prediction: LabelPrediction, target: Tensor) -> float | None:
        """By how much the label that was said is likelier than the right one."""
        said, meant, likely = prediction.chosen[0], int(target), prediction.probabilities
        if meant < 0:
            return None
        if bool(likely.isnan().any()):
            return 1.0
        return None if said == meant else float(likely[said] - likely[meant])

    def logits_of(self, answers: Tensor) -> Tensor:
        """The logits of a model that gives these answers (N,) and is sure of them."""
        valid = answers.clamp(0, len(self.labels) - 1).long()
        return F.one_hot(valid, len(self.labels)).float() * _SURE

    def constants(self, targets: Tensor) -> list[Constant]:
        """One that always says the most frequent label, and one that says the first of those that occur."""
        counts = torch.bincount(targets[targets >= 0].long(), minlength=len(self.labels)).tolist()
        present = [i for i, count in enumerate(counts) if count]
        chosen = {present[0], max(present, key=counts.__getitem__)} if present else set[int]()
        return [self._always(i, counts[i] / sum(counts)) for i in sorted(chosen)]

    def _always(self, answer: int, share: float) -> Constant:
        return Constant(
            f"always says {self.labels.names[answer]!r}",
            lambda targets: self.logits_of(torch.full_like(targets, answer)),
            {"accuracy": share},
        )

    @property
    def mistakes(self) -> Sequence[Mistake]:
        """Ids that are one too low or too high."""
        remedy = "Shift the labels once, before the model sees them, or not at all."
        return (
            Mistake("ids that are one too low", lambda targets: targets - 1, remedy),
            Mistake("ids that are one too high", lambda targets: targets + 1, remedy),
        )


@dataclass(frozen=True)
class MultiLabel(Task[LabelPrediction]):
    """Any number of labels to each picture."""

    name: ClassVar[TaskName] = "multilabel"
    threshold: float = 0.5
    """A label is said where its probability is at least this."""
    positive_weights: tuple[float, ...] | None = None
    """How much more a picture with a label counts than one without, for each label."""

    def target(self, sample: Sample) -> Tensor:
        """1 for each label that the picture has, else 0: `float32` (K,)."""
        if sample.target is None:
            raise DataError(f"{sample.key} should have labels; it has {_told(sample)}.")
        ids = (sample.target,) if isinstance(sample.target, int) else sample.target
        target = torch.zeros(len(self.labels))
        target[list(ids)] = 1
        return target

    def losses(self, outputs: Any, targets: Tensor, others: Others | None = None) -> Tensor:
        """Binary cross entropy of each label; negative targets are not known and count nowhere."""
        logits = logits_of(outputs).float()
        weights = None if self.positive_weights is None else logits.new_tensor(self.positive_weights)
        each = F.binary_cross_entropy_with_logits(logits, targets.float(), pos_weight=weights, reduction="none")
        known = targets >= 0
        return (torch.where(known, each, 0).sum() / known.sum().clamp(min=1))[None]

    def weights(self, targets: Tensor) -> Tensor:
        """The number of labels that are known to be there or not."""
        return (targets >= 0).sum()[None]

    def new_metrics(self) -> Metrics:
        """Accuracy, exact matches, macro-F1, AUROC, calibration error."""
        return MultiLabelMetrics(self.labels.names, self.threshold)

    def predict(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[LabelPrediction]:
        """The labels of each picture that are likelier than the threshold."""
        likely = logits_of(outputs).detach().float().sigmoid().cpu()
        return [
            LabelPrediction(tuple(i for i in row.argsort(descending=True).tolist() if row[i] >= self.threshold), row)
            for row in (row.clone() for row in likely)
        ]

    def draw(self, picture: Tensor, prediction: LabelPrediction) -> Tensor:
        """The picture, and below it its labels."""
        probabilities = prediction.probabilities.tolist()
        lines = [_line(self.labels.names[i], probabilities[i]) for i in prediction.chosen]
        return with_caption(picture, lines or ["no label"])

    def wrongness(self, prediction: LabelPrediction, target: Tensor) -> float | None:
        """How far the probability of the label that is most wrong is from the truth."""
        meant, likely = target > 0, prediction.probabilities
        wrong = (target >= 0) & ((likely >= self.threshold) != meant)
        if not wrong.any():
            return None
        return float((likely - meant.float()).abs().nan_to_num(nan=1.0)[wrong].max())

    def logits_of(self, answers: Tensor) -> Tensor:
        """The logits of a model that gives these answers (N, K) and is sure of them."""
        return torch.where(answers > 0, _SURE, -_SURE)

    def constants(self, targets: Tensor) -> list[Constant]:
        """One that says every label of every picture, and one that says none."""
        known, meant = targets >= 0, targets > 0
        if not known.any():
            return []
        share = float(meant.sum() / known.sum())
        whole = known.any(1)
        every = float((meant | ~known)[whole].all(1).float().mean())
        none = float((~meant)[whole].all(1).float().mean())
        f1 = [2 * int(m) / int(m + k) for m, k in zip(meant.sum(0), known.sum(0), strict=True) if k]
        return [
            Constant(
                "says every label of every picture",
                lambda targets: self.logits_of(torch.ones_like(targets)),
                {"accuracy": share, "exact_match": every, "macro_f1": sum(f1) / len(f1)},
            ),
            Constant(
                "says no label of any picture",
                lambda targets: self.logits_of(torch.zeros_like(targets)),
                {"accuracy": 1 - share, "exact_match": none},
            ),
        ]

    @property
    def mistakes(self) -> Sequence[Mistake]:
        """Columns that are one off, and 0 taken for 1."""
        columns = "The columns of the targets must be in the order of the labels."
        return (
            Mistake("each label one column too early", lambda targets: targets.roll(-1, 1), columns),
            Mistake("each label one column too late", lambda targets: targets.roll(1, 1), columns),
            Mistake(
                "1 where a label is missing and 0 where it is there",
                lambda targets: 1 - targets,
                "Let 1 mean that the label is there.",
            ),
        )


def _told(sample: Sample) -> str:
    return "none" if sample.target is None else f"{sample.target}"


def _line(name: str, probability: float) -> str:
    return f"{name}  {probability:.0%}"
