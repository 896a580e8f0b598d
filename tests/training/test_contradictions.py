"""What cannot be asked for together."""

from __future__ import annotations

import pytest
import torch

from lumora.data import Labels
from lumora.errors import RecipeError
from lumora.tasks import TASKS
from lumora.training.recipe import parse_asked
from lumora.training.schema.contradictions import SCORES

HEAD, FULL = {"train.method": "head"}, {"train.method": "full"}
CLASSES, MANY, MASKS = ({"data.task": task} for task in ("classification", "multilabel", "segmentation"))
TOGETHER = [
    ({**HEAD, "lora.dora": True}, "lora.dora is true, but train.method is 'head', which adds no adapters"),
    ({**FULL, "lora.rslora": True}, "lora.rslora is true, but train.method is 'full', which adds no adapters"),
    ({**FULL, "lora.rank_pattern": {"a": 3}}, "lora.rank_pattern is {'a': 3}, but"),
    ({**FULL, "lora.alpha_pattern": {"a": 3}}, "lora.alpha_pattern is {'a': 3.0}, but"),
    ({**HEAD, "train.lora_plus": 4}, "train.lora_plus is 4.0, but train.method is 'head'"),
    ({**HEAD, "train.head_first": 3}, "train.head_first trains the head alone before the rest"),
    ({**HEAD, "lora.norms": True}, "nothing but the head is trained"),
    ({**HEAD, "lora.bias": "all"}, "lora.bias trains biases of the base"),
    ({**MASKS, "pictures.mix": "mixup"}, "pictures.mix is 'mixup', but it is for classification and multilabel only"),
    ({**MASKS, "pictures.trivial_augment": True}, "pictures.trivial_augment is true, but it is for classification"),
    ({**MASKS, "pictures.area": [0.2, 1]}, "pictures.area is [0.2, 1.0], but it is for classification and multilabel"),
    ({**CLASSES, "pictures.scale": [0.5, 2]}, "not for classification: use pictures.area"),
    ({**CLASSES, "loss.dice": 1}, "loss.dice is 1.0, but it is for segmentation only, not for classification"),
    ({**MANY, "loss.dice": 1}, "not for multilabel"),
    ({**MANY, "loss.label_smoothing": 0.1}, "loss.label_smoothing is 0.1, but it is for classification and segment"),
    ({**CLASSES, "base.head": "light"}, "base.head is 'light', but it is for segmentation only"),
    ({**CLASSES, "data.reduce_labels": True}, "data.reduce_labels is true, but it is for segmentation only"),
    ({**CLASSES, "train.best_by": "mean_iou"}, "must be a score of classification: accuracy, macro_f1"),
    ({"train.best_by": "loss"}, "train.best_by is 'loss'; it must be a score of a task: accuracy,"),
    ({"data.validation": 0.5, "data.test": 0.5}, "data.validation 0.5 and data.test 0.5 leave nothing to learn from"),
    ({"train.batch_size": 32, "train.micro_batch": 5}, "train.batch_size is 32, which cannot be put together from a"),
    ({"train.batch_size": 8, "train.micro_batch": 16}, "train.batch_size is 8, which cannot be put together from a"),
    ({"lora.start": "orthogonal", "lora.r": 5}, "lora.start 'orthogonal' needs even ranks"),
    ({"lora.start": "orthogonal", "lora.rank_pattern": {"a": 5}}, "lora.start 'orthogonal' needs even ranks"),
    (
        {"train.patience": 3, "train.best_by": None},
        "train.patience waits for a better score, but train.best_by is",
    ),
]
APART = [
    {**HEAD, "lora.dora": False, "lora.rank_pattern": {}, "train.lora_plus": None, "train.head_first": 0, "lora.r": 4},
    {**MASKS, "pictures.mix": "none", "pictures.area": None, "pictures.scale": [0.5, 2], "loss.dice": 1},
    {**CLASSES, "pictures.scale": None, "loss.dice": 0, "base.head": "auto", "data.reduce_labels": False},
    {**MANY, "pictures.mix": "both", "train.best_by": "auroc"},
    {"train.batch_size": 32, "train.micro_batch": 4},
    {"lora.start": "orthogonal", "lora.r": 4, "lora.rank_pattern": {"a": 6}},
    {"train.best_by": None},
    {"train.patience": 3},
]


@pytest.mark.parametrize(("given", "said"), TOGETHER)
def test_contradictions__are_told(given, said):
    with pytest.raises(RecipeError) as raised:
        parse_asked(given)
    assert said in str(raised.value)
    for key in given:  # each of them alone is fine
        parse_asked({key: given[key]}) if key != "train.best_by" else None


@pytest.mark.parametrize("given", APART)
def test_values__that_ask_for_nothing_contradict_nothing(given):
    parse_asked(given)


def test_contradictions__are_told_together():
    with pytest.raises(RecipeError) as raised:
        parse_asked({**MASKS, **HEAD, "lora.dora": True, "pictures.mix": "both", "pictures.trivial_augment": True})
    assert str(raised.value).startswith("The recipe cannot be used, for 3 reasons:\n- ")


@pytest.mark.parametrize("task", SCORES)
def test_scores__are_those_that_the_metrics_give(task):
    names = tuple("abcdefg")
    kind = TASKS[task](Labels(names), **({"boundary": 0.01} if task == "segmentation" else {}))
    metrics = kind.new_metrics()
    targets = {
        "classification": torch.arange(7),
        "multilabel": torch.eye(7),
        "segmentation": torch.arange(7).repeat_interleave(8).expand(1, 56, 56),
    }[task]
    metrics.update(kind.logits_of(targets), targets)
    scores = metrics.compute()
    assert metrics.main == SCORES[task][0]
    assert set(SCORES[task]) == set(scores) - {"calibration_error"}
    assert all(scores[name] == 1 for name in SCORES[task])
