"""What was asked for and does not fit the data, the base or the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lumora.training.facts import Facts

Asked = Mapping[str, Any]


def misfits(asked: Asked, facts: Facts) -> list[str]:
    """A sentence for everything that does not fit."""
    return [sentence for check in _CHECKS for sentence in check(asked, facts)]


def _task(asked: Asked, facts: Facts) -> Iterator[str]:
    if asked.get("data.task", facts.task) != facts.task:
        yield f"data.task is {asked['data.task']!r}, but the data are labelled for {facts.task}"


def _base(asked: Asked, facts: Facts) -> Iterator[str]:
    if asked.get("lora.targets") == "usual" and not facts.base.usual_targets:
        yield (
            f"lora.targets is 'usual', but nothing is usual in the architecture of {facts.base.name}; use 'all', or "
            "name the layers (`lumora inspect` lists them)"
        )


def _weights(asked: Asked, facts: Facts) -> Iterator[str]:
    weights = asked.get("loss.class_weights")
    if isinstance(weights, tuple) and len(weights) != facts.classes:  # type: ignore[arg-type]
        yield f"loss.class_weights has {len(weights)} numbers, but there are {facts.classes} labels"  # type: ignore[arg-type]


def _precision(asked: Asked, facts: Facts) -> Iterator[str]:
    precision, machine = asked.get("train.precision"), facts.machine
    if precision == "fp16" and machine.device == "cpu":
        yield "train.precision is 'fp16', but the CPU computes here, which cannot train with it; use 'fp32'"
    if precision == "bf16" and machine.device == "cuda" and not machine.bf16:
        yield "train.precision is 'bf16', but this GPU does not have it; use 'fp16'"


def _validation(asked: Asked, facts: Facts) -> Iterator[str]:
    if facts.pictures_validation:
        return
    for key in ("train.best_by", "train.patience"):
        if asked.get(key) is not None:
            yield f"{key} is {asked[key]!r}, but there are no pictures for validation; raise data.validation"


def _batch(asked: Asked, facts: Facts) -> Iterator[str]:
    for key in ("train.batch_size", "train.micro_batch"):
        size = asked.get(key)
        if size is not None and size > facts.pictures_train:
            yield f"{key} is {size:,}, but there are {facts.pictures_train:,} pictures for training"


_CHECKS: tuple[Callable[[Asked, Facts], Iterator[str]], ...] = (_task, _base, _weights, _precision, _validation, _batch)
