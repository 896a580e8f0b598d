"""What a task is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from lumora.data.labels import Labels
from lumora.data.sample import Sample, TaskName
from lumora.errors import MetricError
from lumora.tasks.metrics.base import Metrics, first_of

Prediction = TypeVar("Prediction")


@dataclass(frozen=True)
class Constant:
    """A predictor that always answers the same."""

    description: str
    """What it does, in words: "a model that …"."""
    logits_for: Callable[[Tensor], Tensor]
    """Its logits for a batch with these targets."""
    scores: Mapping[str, float]
    """What it must score, counted from the targets alone."""


@dataclass(frozen=True)
class Mistake:
    """A usual way of getting targets wrong."""

    description: str
    """What a model that agrees with the mistake would give, in words: "a model that gives …"."""
    made: Callable[[Tensor], Tensor]
    """What the mistake makes of targets."""
    remedy: str


@dataclass(frozen=True)
class Others:
    """The processes that have the other parts of a batch."""

    add_up: Callable[[Tensor], None]
    """Makes the `Task.sums` numbers of a tensor the sums of everyone's, in place."""
    share: float
    """How much of the batch's pictures this process has."""


@dataclass(frozen=True)
class Task(ABC, Generic[Prediction]):
    """What samples, losses, metrics, predictions and drawings of one kind of problem are.

    Outputs are a model's: logits, or what transformers models return. A new task is a class like this in a file of its
    own, and a line in `lumora.tasks`.
    """

    name: ClassVar[TaskName]
    labels: Labels

    @abstractmethod
    def target(self, sample: Sample) -> Tensor:
        """The label of a sample as its loss and metrics want it, without a batch dimension."""

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """What training makes small: the sum of the losses."""
        return self.losses(outputs, targets).sum()

    @abstractmethod
    def losses(self, outputs: Any, targets: Tensor, others: Others | None = None) -> Tensor:
        """The losses (M,), each a mean over what counts in the batch.

        Where others have parts of the batch, a loss that is no such mean is asked of all of them together.
        """

    @property
    def sums(self) -> int:
        """How many numbers such a loss adds up over the processes."""
        return 0

    def weights(self, targets: Tensor) -> Tensor:
        """How much of a batch each mean is over (M,): of two batches together, the sum of theirs."""
        return torch.tensor([float(len(targets))])

    @abstractmethod
    def new_metrics(self) -> Metrics:
        """Metrics that have not counted anything yet."""

    @abstractmethod
    def predict(self, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[Prediction]:
        """One prediction for each picture of the batch; `sizes` are the pictures' own heights and widths."""

    @abstractmethod
    def draw(self, picture: Tensor, prediction: Prediction) -> Tensor:
        """A picture, `uint8` (3, H, W), with what was predicted on it or beside it."""

    @abstractmethod
    def wrongness(self, prediction: Prediction, target: Tensor) -> float | None:
        """How wrong a prediction is, from 0 to 1; None where it is right, or nobody knows. All is on the CPU."""

    # What the self-test needs to know. Answers have the form of targets.

    @abstractmethod
    def logits_of(self, answers: Tensor) -> Tensor:
        """The logits of a model that gives these answers and is sure of them."""

    @abstractmethod
    def constants(self, targets: Tensor) -> list[Constant]:
        """Some constant predictors for these targets."""

    @property
    @abstractmethod
    def mistakes(self) -> Sequence[Mistake]:
        """Usual ways of getting targets wrong."""


def weight_of_all(ids: Tensor, class_weights: Sequence[float] | None) -> Tensor:
    """The weights (1,) of all these class ids together; each counts 1 where classes have no weights."""
    if class_weights is None:
        return ids.new_tensor([ids.numel()], dtype=torch.float64)
    counts = torch.bincount(ids.flatten(), minlength=len(class_weights))
    return (counts * counts.new_tensor(class_weights, dtype=torch.float64)).sum()[None]


def logits_of(outputs: Any) -> Tensor:
    """The logits among what a model returned: a tensor, a tuple, a dictionary or a transformers output.

    >>> import torch
    >>> logits_of({"loss": None, "logits": torch.zeros(2, 3)}).shape
    torch.Size([2, 3])
    """
    found = outputs["logits"] if isinstance(outputs, Mapping) and "logits" in outputs else first_of(outputs)
    found = getattr(found, "logits", found)
    if not isinstance(found, Tensor):
        raise MetricError(
            f"The model returned {type(outputs).__name__}, in which no logits were found. It should return a tensor, a "
            'tuple that starts with one, or something with "logits".'
        )
    return found
