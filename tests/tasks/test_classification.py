from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tests.tasks.samples import MadeSample

from lumora.data import Labels, Source
from lumora.errors import DataError, MetricError
from lumora.tasks import TASKS, Classification, MultiLabel, task_for
from lumora.tasks.base import logits_of

LABELS = Labels(("cat", "dog", "owl"))


@pytest.mark.parametrize("name", ["classification", "multilabel"])
def test_task_for__a_source_says_which(name):
    task = task_for(Source(name, LABELS, {}, "folders"))
    assert type(task) is TASKS[name]
    assert task.labels is LABELS


@pytest.mark.parametrize(
    "outputs",
    [
        torch.ones(1, 3),
        (torch.ones(1, 3), "more"),
        {"loss": None, "logits": torch.ones(1, 3)},
        SimpleNamespace(logits=torch.ones(1, 3)),
    ],
)
def test_logits_of__whatever_a_model_returns(outputs):
    assert torch.equal(logits_of(outputs), torch.ones(1, 3))


def test_logits_of__nothing_like_logits():
    with pytest.raises(MetricError, match="The model returned str"):
        logits_of("logits")


def test_classification__reads_labels():
    assert Classification(LABELS).target(MadeSample(target=2)).item() == 2
    assert MultiLabel(LABELS).target(MadeSample(target=(0, 2))).tolist() == [1, 0, 1]
    assert MultiLabel(LABELS).target(MadeSample(target=())).tolist() == [0, 0, 0]
    assert MultiLabel(LABELS).target(MadeSample(target=1)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("task", "target", "message"),
    [
        (Classification, None, "made should have one label; it has none"),
        (Classification, (0, 1), r"made should have one label; it has \(0, 1\)"),
        (MultiLabel, None, "made should have labels; it has none"),
    ],
)
def test_classification__samples_without_a_fitting_label_are_refused(task, target, message):
    with pytest.raises(DataError, match=message):
        task(LABELS).target(MadeSample(target=target))


def test_classification__loss_is_cross_entropy():
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    task = Classification(LABELS, label_smoothing=0.1, class_weights=(1.0, 2.0, 3.0))
    likely = logits.log_softmax(1)
    spread = F.one_hot(targets, 3) * 0.9 + 0.1 / 3
    weights = torch.tensor([1.0, 2.0, 3.0])
    expected = -(spread * weights * likely).sum() / weights[targets].sum()
    torch.testing.assert_close(task.loss({"logits": logits}, targets), expected)


def test_classification__loss_takes_mixed_targets():
    logits, shares = torch.randn(4, 3), torch.rand(4, 3).softmax(1)
    expected = -(shares * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(Classification(LABELS).loss(logits, shares), expected)


def test_multilabel__loss_leaves_out_what_is_not_known():
    logits, targets = torch.randn(4, 3), torch.tensor([[0, 1, -1], [1, 1, 0], [-1, -1, -1], [0, 0, 1]])
    likely = logits.sigmoid()
    each = -torch.where(targets > 0, likely.log(), (1 - likely).log())
    torch.testing.assert_close(MultiLabel(LABELS).loss(logits, targets), each[targets >= 0].mean())
    assert MultiLabel(LABELS).loss(logits, torch.full((4, 3), -1)) == 0


def test_multilabel__loss_weighs_positives():
    logits, targets = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 1.0]])
    loss = MultiLabel(LABELS, positive_weights=(5.0, 7.0, 1.0)).loss(logits, targets)
    assert loss.item() == pytest.approx(0.693147 * (5 + 1 + 1) / 3, abs=1e-5)


def test_predict__the_likeliest_label_or_all_above_the_threshold():
    logits = torch.tensor([[0.0, 2.0, 1.0], [-3.0, -3.0, -4.0]])
    one = Classification(LABELS).predict(logits, [(8, 8)] * 2)
    assert [p.chosen for p in one] == [(1,), (0,)]
    torch.testing.assert_close(one[0].probabilities, logits[0].softmax(0))
    some = MultiLabel(LABELS, threshold=0.6).predict(logits, [(8, 8)] * 2)
    assert [p.chosen for p in some] == [(1, 2), ()]


@pytest.mark.parametrize("task", [Classification(LABELS), MultiLabel(LABELS)])
def test_draw__keeps_the_picture_and_writes_below(task):
    picture = torch.randint(0, 255, (3, 200, 320), dtype=torch.uint8)
    prediction = task.predict(torch.tensor([[4.0, -2.0, 1.0]]), [(200, 320)])[0]
    drawn = task.draw(picture, prediction)
    assert drawn.dtype == torch.uint8
    assert drawn.shape[0] == 3 and drawn.shape[2] == 320
    assert torch.equal(drawn[:, :200], picture)
    assert (drawn[:, 200:] < 128).any()  # ink


def test_metrics__perfect_answers_score_one():
    targets = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0]])
    task = MultiLabel(LABELS)
    metrics = task.new_metrics()
    metrics.update(task.logits_of(targets), targets)
    scores = metrics.compute()
    assert [scores[name] for name in ("accuracy", "exact_match", "macro_f1", "auroc")] == [1, 1, 1, 1]
