"""Evaluation inside transformers' `Trainer`, in constant memory, and proved before it is trusted.

The stock `Trainer` gathers the logits of every picture before it computes anything: 10 MB for each picture of 512 × 512
pixels with 150 classes, and sixteen times that once they are upsampled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback
from transformers.trainer_utils import EvalLoopOutput

from lumora.errors import MetricError
from lumora.tasks import Task
from lumora.tasks.metrics import Metrics
from lumora.tasks.metrics.base import first_of
from lumora.tasks.selftest import Predictor, check_evaluation


class StreamingTrainer(transformers.Trainer):
    """A `Trainer` whose `compute_metrics` may be a task's metrics.

    Given such metrics, `evaluate` counts each batch on its device and keeps nothing of it. Any other `compute_metrics`
    is called as ever.
    """

    _streamed: Metrics | None = None
    _stand_in: Predictor | None = None
    _seen: list[Tensor]

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate or predict, as the stock one does; predictions are kept only where they are asked for."""
        metrics: Any = self.compute_metrics
        only_loss = self.args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        arguments = (dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if isinstance(metrics, Metrics):
            metrics.reset()
        if not isinstance(metrics, Metrics) or only_loss or description == "Prediction":
            return super().evaluation_loop(*arguments)
        self._streamed = metrics.to(self.args.device)
        try:
            output = super().evaluation_loop(*arguments)
        finally:
            self._streamed = None
        scores = metrics.logged(metrics.compute())
        assert output.metrics is not None  # the stock loop always makes one
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in scores.items()})
        return output

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Loss, logits and labels of one batch; of a batch that was counted, the loss alone."""
        if self._stand_in is not None:
            targets: Tensor = self._prepare_input(inputs[self.label_names[0]])
            everyones: Any = self.accelerator.gather_for_metrics(targets)
            self._seen.append(everyones.cpu())
            model = _Answers(self._stand_in(targets))
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if self._streamed is None or logits is None or labels is None:
            return loss, logits, labels
        logits, labels = first_of(logits), first_of(labels)
        own = self._own(len(logits))
        self._streamed.update(logits[:own], labels[:own])
        return loss, None, None

    def self_test(self, task: Task[Any], eval_dataset: Any = None, pictures: int = 2) -> None:
        """Evaluate a perfect predictor and constant ones, as `evaluate` would; an error if a score is not as it must.

        Everything is as for the model: the data, the collator, `compute_metrics` whatever it is. Only the model's
        answers are replaced. It costs a few evaluations of `pictures` pictures; call it before `train`.
        """
        if self.compute_metrics is None:
            raise MetricError("This Trainer has no compute_metrics, so there is no evaluation to test.")
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        for some in data.values() if isinstance(data, dict) else (data,):
            check_evaluation(task, self._evaluation_of(_first(some, pictures)))

    def _evaluation_of(self, data: Any) -> Callable[[Predictor], tuple[Mapping[str, Any], Sequence[Tensor]]]:
        def evaluate(predictor: Predictor) -> tuple[Mapping[str, Any], Sequence[Tensor]]:
            with self._answered_by(predictor) as seen:
                output = self.evaluation_loop(self.get_eval_dataloader(data), "Self-test", prediction_loss_only=False)
            return {name.removeprefix("eval_"): value for name, value in (output.metrics or {}).items()}, seen

        return evaluate

    @contextmanager
    def _answered_by(self, predictor: Predictor) -> Generator[list[Tensor]]:
        """Let a predictor answer for the model; gives the targets that it has seen. Callbacks hear nothing of it."""
        callbacks = self.callback_handler
        self.callback_handler = CallbackHandler([DefaultFlowCallback()], self.model, self.processing_class, None, None)
        self._stand_in, self._seen = predictor, []
        try:
            yield self._seen
        finally:
            self._stand_in, self.callback_handler = None, callbacks

    def _own(self, count: int) -> int:
        """How many of this process's samples count: the last batch repeats some, so that all processes have as many."""
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return count
        return min(max(state.remainder - self.accelerator.process_index * count, 0), count)


class _Answers(nn.Module):
    """In the model's place for one batch."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, **_: Any) -> dict[str, Tensor]:
        return {"loss": torch.zeros((), device=self.logits.device), "logits": self.logits}


def _first(data: Any, count: int) -> Any:
    """The first few samples of whatever a `Trainer` takes for data."""
    if hasattr(data, "select"):
        return data.select(range(min(count, len(data))))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return torch.utils.data.Subset(data, range(min(count, len(data))))
    return list(itertools.islice(data, count))
