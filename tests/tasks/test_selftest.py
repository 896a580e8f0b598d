"""Wrong evaluations are found out, and the message says what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from lumora.data import Labels
from lumora.errors import MetricError, SelfTestError
from lumora.tasks import Classification, MultiLabel
from lumora.tasks.selftest import check_evaluation, self_test

LABELS = Labels(("cat", "dog", "owl", "fox"))
SINGLE = [torch.tensor([0, 3, 1, 1]), torch.tensor([1, -100])]
SEVERAL = [torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0]]), torch.tensor([[1, 1, -1, 0]])]


def batches(targets):
    return [{"pixel_values": None, "labels": t} for t in targets]


@pytest.mark.parametrize(("task", "targets"), [(Classification, SINGLE), (MultiLabel, SEVERAL)])
def test_self_test__a_right_evaluation_passes(task, targets):
    self_test(task(LABELS), batches(targets))


@pytest.mark.parametrize("targets", [[], [torch.tensor([-100])]])
def test_self_test__nothing_to_check_with(targets):
    with pytest.raises(MetricError, match="No picture with a label was evaluated"):
        self_test(Classification(LABELS), batches(targets))


def test_check_evaluation__nothing_to_check_with():
    with pytest.raises(SelfTestError, match="no label that counts"):
        check_evaluation(Classification(LABELS), evaluation(lambda x, y: {"accuracy": 1}, [torch.tensor([-100])]))


def evaluation(score, targets):
    """An evaluation that gathers everything and then calls `score(logits, targets)`, as Trainer does."""

    def evaluate(predictor):
        logits = torch.cat([predictor(t) for t in targets]).numpy()
        return score(logits, torch.cat(targets).numpy()), targets

    return evaluate


def test_check_evaluation__a_users_own_accuracy_passes():
    def score(logits, targets):
        return {"accuracy": sk.accuracy_score(targets, logits.argmax(1))}

    check_evaluation(Classification(LABELS), evaluation(score, [SINGLE[0]]))


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda x, y: {"accuracy": (x.argmax(1) == y - 1).mean()}, "ids that are one too low"),
        (lambda x, y: {"accuracy": (x.argmax(1) == y + 1).mean()}, "ids that are one too high"),
        (lambda x, y: {"accuracy": (x.argmin(1) == y).mean()}, "No usual mistake"),
        (lambda x, y: {"accuracy": 1.0}, r"always says 'cat' has accuracy 1 instead of 0\.25"),
        (lambda x, y: {"accuracy": np.nan}, "accuracy nan instead of 1"),
        (lambda x, y: {"loss": 0.0, "f1": 1.0}, "returned loss, f1, and none of the scores"),
        (lambda x, y: {}, "returned nothing"),
    ],
)
def test_check_evaluation__wrong_ones_are_found_out(score, message):
    with pytest.raises(SelfTestError, match=message):
        check_evaluation(Classification(LABELS), evaluation(score, [SINGLE[0]]))


def test_check_evaluation__columns_in_another_order():
    targets = [torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0]])]

    def score(logits, targets):
        return {"exact_match": sk.accuracy_score(np.roll(targets, 1, 1), logits > 0)}

    with pytest.raises(SelfTestError, match="one column too late has 1 on average"):
        check_evaluation(MultiLabel(LABELS), evaluation(score, targets))
