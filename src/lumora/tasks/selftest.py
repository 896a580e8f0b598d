"""An evaluation proves itself, before a model is trained by it.

A predictor that is always right must score 1, one that always answers the same must score what counting says. Both take
the model's place in the very evaluation that the model will go through: same batches, same resizing, same metrics.
Labels shifted twice, a forgotten ignore index, masks turned by a transform: all of them make a perfect model look bad,
and nothing else would tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lumora.errors import SelfTestError
from lumora.tasks.base import Mistake, Task

Predictor = Callable[[Tensor], Tensor]
"""Logits from the targets of a batch."""
Evaluate = Callable[[Predictor], tuple[Mapping[str, Any], Sequence[Tensor]]]
"""An evaluation with something else in the model's place: its scores by their names, and the targets of its batches."""

_TOLERANCE = 1e-4


def self_test(task: Task[Any], batches: Iterable[Mapping[str, Any]], key: str = "labels") -> None:
    """Check a task's own metrics on a few batches as a loader gives them; an error says what is wrong.

    >>> from lumora.data import Labels
    >>> from lumora.tasks import Classification
    >>> self_test(Classification(Labels(("cat", "dog"))), [{"labels": torch.tensor([0, 1, 1])}])
    """
    targets = [target for batch in batches for target in _stacked(batch[key])]

    def evaluate(predictor: Predictor) -> tuple[Mapping[str, Any], Sequence[Tensor]]:
        metrics = task.new_metrics()
        for some in targets:
            metrics.update(predictor(some), some)
        return metrics.scores(), targets  # of these batches, whatever other processes count

    check_evaluation(task, evaluate)


def check_evaluation(task: Task[Any], evaluate: Evaluate) -> None:
    """Check any evaluation of a task; an error says what is wrong.

    `evaluate` puts a predictor in the model's place. It is called a few times, and must return at least one score that
    the task knows, under its name.
    """
    perfect, targets = evaluate(task.logits_of)
    constants = task.constants(_joined(targets))
    if not constants:
        raise SelfTestError(
            "The evaluation cannot be checked: in the batches that were looked at there is no label that counts."
        )
    expected = {name: 1.0 for constant in constants for name in constant.scores}
    if not (known := [name for name in expected if name in perfect]):
        raise SelfTestError(
            f"The evaluation returned {_listed(perfect)}, and none of the scores by which it could be checked: "
            f"{_listed(expected)}. Return at least one of them under this name."
        )
    if wrong := _differing(perfect, expected, known):
        raise SelfTestError(
            f"The evaluation is wired wrongly: a model that gives exactly the labels of its batches has {wrong}. "
            + _suspicion(task, evaluate, perfect, known)
        )
    for constant in constants:
        scores, _ = evaluate(constant.logits_for)
        if wrong := _differing(scores, constant.scores, known):
            raise SelfTestError(
                f"The evaluation is wired wrongly: a model that {constant.description} has {wrong}, which is what "
                "counting the labels of the same batches gives. Is something ignored that should count, or counted "
                "that should be ignored (ignore_index)?"
            )


def _stacked(labels: Any) -> Sequence[Tensor]:
    """The labels of a batch as one tensor; masks of different sizes as a batch each."""
    if isinstance(labels, list) and all(isinstance(one, Tensor) for one in labels):
        return [one[None] for one in labels]
    return [torch.as_tensor(labels)]


def _joined(targets: Sequence[Tensor]) -> Tensor:
    """The targets of all batches as one; masks of different sizes as one row of pixels."""
    each = [t.detach().cpu() for t in targets]
    if len({t.shape[1:] for t in each}) > 1:
        each = [t.reshape(1, 1, -1) for t in each]
        return torch.cat(each, dim=2)
    return torch.cat(each) if each else torch.empty(0, dtype=torch.int64)


def _suspicion(task: Task[Any], evaluate: Evaluate, perfect: Mapping[str, Any], known: list[str]) -> str:
    """What is probably wrong: the mistake with which a model would score much better than without."""
    best, likeliest = max(
        ((_mean(evaluate(_sharing(task, mistake))[0], known), mistake) for mistake in task.mistakes),
        key=lambda pair: pair[0],
    )
    if best < max(0.6, 2 * _mean(perfect, known)):
        return (
            "No usual mistake explains it. Compare the labels of one batch with those that the metric gets: their "
            "values, order and size, and which of them are ignored."
        )
    return f"One that gives {likeliest.description} has {best:.4g} on average. {likeliest.remedy}"


def _sharing(task: Task[Any], mistake: Mistake) -> Predictor:
    return lambda targets: task.logits_of(mistake.made(targets))


def _mean(scores: Mapping[str, Any], names: list[str]) -> float:
    values = [float(scores[name]) for name in names]
    return sum(0.0 if math.isnan(v) else v for v in values) / len(values)


def _differing(scores: Mapping[str, Any], expected: Mapping[str, float], known: list[str]) -> str:
    found = {name: float(scores[name]) for name in known if name in expected}
    wrong = {name: value for name, value in found.items() if not abs(value - expected[name]) <= _TOLERANCE}
    return ", ".join(f"{name} {value:.4g} instead of {expected[name]:.4g}" for name, value in wrong.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
