"""What cannot be asked for together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lumora.training.schema.telling import told

Values = Mapping[str, Any]
"""Dotted keys with checked values; keys that are still open are not there."""

_ONLY_WITH_ADAPTERS: Mapping[str, tuple[Any, ...]] = {
    "lora.dora": (False,),
    "lora.rslora": (False,),
    "lora.rank_pattern": ({},),
    "lora.alpha_pattern": ({},),
    "train.lora_plus": (),
}
"""Keys that need adapters, with the values that ask for nothing."""
_TASKS: Mapping[str, tuple[tuple[str, ...], tuple[Any, ...], str]] = {
    "pictures.mix": (("classification", "multilabel"), ("none",), "masks cannot be blended"),
    "pictures.trivial_augment": (("classification", "multilabel"), (False,), "masks would not follow its changes"),
    "pictures.area": (("classification", "multilabel"), (), "use pictures.scale"),
    "pictures.scale": (("segmentation",), (), "use pictures.area"),
    "loss.dice": (("segmentation",), (0,), "it compares areas"),
    "loss.label_smoothing": (("classification", "segmentation"), (0,), "each label is its own yes or no"),
    "base.head": (("segmentation",), ("auto",), "other tasks have one kind of head"),
    "data.reduce_labels": (("segmentation",), (False,), "it is about masks"),
}
"""Keys that some tasks have: which tasks, the values that ask for nothing, and why."""
SCORES: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "top5_accuracy"),
    "multilabel": ("macro_f1", "accuracy", "exact_match", "auroc"),
    "segmentation": ("mean_iou", "mean_accuracy", "overall_accuracy", "boundary_f"),
}
"""The scores of each task that are better when higher, the usual one first."""


def contradictions(values: Values) -> list[str]:
    """A sentence for everything that does not go together.

    >>> contradictions({"lora.dora": True, "train.method": "head"})
    ["lora.dora is true, but train.method is 'head', which adds no adapters"]
    """
    return [sentence for check in _CHECKS for sentence in check(values)]


def _adapters(values: Values) -> Iterator[str]:
    method = values.get("train.method")
    if method in ("head", "full", "scratch"):
        for key, nothing in _ONLY_WITH_ADAPTERS.items():
            value = values.get(key)
            if value is not None and value not in nothing:
                yield f"{key} is {told(value)}, but train.method is {method!r}, which adds no adapters"


def _head_alone(values: Values) -> Iterator[str]:
    if values.get("train.method") != "head":
        return
    if values.get("train.head_first"):
        yield "train.head_first trains the head alone before the rest, but with train.method 'head' there is no rest"
    if values.get("lora.norms"):
        yield "lora.norms trains normalisation layers, but with train.method 'head' nothing but the head is trained"
    if values.get("lora.bias", "none") != "none":
        yield "lora.bias trains biases of the base, but with train.method 'head' nothing but the head is trained"


def _task(values: Values) -> Iterator[str]:
    task = values.get("data.task")
    if task is None:
        return
    for key, (tasks, nothing, why) in _TASKS.items():
        value = values.get(key)
        if task not in tasks and value is not None and value not in nothing:
            yield f"{key} is {told(value)}, but it is for {' and '.join(tasks)} only, not for {task}: {why}"


def _best(values: Values) -> Iterator[str]:
    score, task = values.get("train.best_by"), values.get("data.task")
    known = dict.fromkeys(name for of, names in SCORES.items() for name in names if task in (None, of))
    if score is not None and score not in known:
        yield f"train.best_by is {score!r}; it must be a score of {task or 'a task'}: {', '.join(known)}"


def _splits(values: Values) -> Iterator[str]:
    validation, test = values.get("data.validation", 0), values.get("data.test", 0)
    if validation + test >= 1:
        yield f"data.validation {validation:g} and data.test {test:g} leave nothing to learn from; stay below 1 in all"


def _micro_batch(values: Values) -> Iterator[str]:
    whole, part = values.get("train.batch_size"), values.get("train.micro_batch")
    if whole is not None and part is not None and whole % part:
        yield f"train.batch_size is {whole}, which cannot be put together from a train.micro_batch of {part}"


def _even_ranks(values: Values) -> Iterator[str]:
    ranks = [values.get("lora.r", 2), *values.get("lora.rank_pattern", {}).values()]
    if values.get("lora.start") == "orthogonal" and any(rank % 2 for rank in ranks):
        yield "lora.start 'orthogonal' needs even ranks in lora.r and lora.rank_pattern"


def _start_from(values: Values) -> Iterator[str]:
    bundle = values.get("train.start_from")
    if bundle is not None and values.get("train.method") == "scratch":
        yield f"train.start_from is {bundle!r}, but train.method 'scratch' begins with random weights"


def _patience(values: Values) -> Iterator[str]:
    if values.get("train.patience") is not None and "train.best_by" in values and values["train.best_by"] is None:
        yield "train.patience waits for a better score, but train.best_by is null, so none is looked at"


_CHECKS: tuple[Callable[[Values], Iterator[str]], ...] = (
    _adapters,
    _head_alone,
    _task,
    _best,
    _splits,
    _micro_batch,
    _even_ranks,
    _start_from,
    _patience,
)
