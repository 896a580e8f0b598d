"""The metrics of classification against scikit-learn, and against the formula where it has none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from lumora.errors import MetricError
from lumora.tasks.metrics import ClassificationMetrics, MultiLabelMetrics

NAMES = [f"class {i}" for i in range(9)]


def answers(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right now and then, and labels of which the last class never occurs."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator)
    targets = torch.randint(0, classes - 1, (count,), generator=generator)
    logits[torch.arange(count), targets] += 1
    logits[:, -1] = -9
    return logits, targets


def streamed(metrics, logits, targets, batch=7):
    for start in range(0, len(logits), batch):
        metrics.update(logits[start : start + batch], targets[start : start + batch])
    return metrics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_classification__equals_scikit_learn(dtype):
    logits, targets = answers(200, 9)
    logits = logits.to(dtype)
    scores = streamed(ClassificationMetrics(NAMES), logits, targets).compute()
    said, meant = logits.argmax(1).numpy(), targets.numpy()
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(meant, said), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(meant, said, average="macro"), abs=1e-12)
    precision, recall, f1, support = sk.precision_recall_fscore_support(meant, said, zero_division=0)
    for i, row in enumerate(scores.per_class.values()):
        assert list(row.values()) == pytest.approx([precision[i], recall[i], f1[i], support[i]], abs=1e-12)
    if dtype != torch.bfloat16:  # scikit-learn orders equal scores the other way round
        expected = sk.top_k_accuracy_score(meant, logits.double().numpy(), k=5, labels=range(9))
        assert scores["top5_accuracy"] == pytest.approx(expected, abs=1e-12)


def test_classification__leaves_out_classes_that_never_occur():
    logits, targets = answers(50, 9)
    assert "class 8" not in streamed(ClassificationMetrics(NAMES), logits, targets).compute().per_class


def test_calibration_error__is_the_gap_of_each_bin_weighted_by_its_samples():
    logits, targets = answers(300, 9, seed=3)
    found = streamed(ClassificationMetrics(NAMES), logits * 2, targets).compute()["calibration_error"]
    likely = np.exp(2 * logits.double().numpy())
    likely /= likely.sum(1, keepdims=True)
    sure, right = likely.max(1), likely.argmax(1) == targets.numpy()
    expected = 0.0
    for i in range(15):
        inside = (sure > i / 15) & (sure <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert found == pytest.approx(expected, abs=1e-7)


def test_classification__fewer_than_six_classes_have_no_top_5():
    logits, targets = answers(20, 4)
    assert "top5_accuracy" not in streamed(ClassificationMetrics(NAMES[:4]), logits, targets).compute()


def test_classification__equal_logits_are_no_right_answer_for_every_label():
    metrics = ClassificationMetrics(NAMES)
    metrics.update(torch.zeros(9, 9), torch.arange(9))
    scores = metrics.compute()
    assert scores["accuracy"] == pytest.approx(1 / 9)
    assert scores["top5_accuracy"] == pytest.approx(5 / 9)


def test_classification__nan_is_wrong():
    metrics = ClassificationMetrics(NAMES)
    metrics.update(torch.full((9, 9), torch.nan), torch.arange(9))
    scores = metrics.compute()
    assert (scores["accuracy"], scores["top5_accuracy"]) == (0, 0)


def test_classification__unlabelled_pictures_count_nowhere():
    logits, targets = answers(40, 9)
    some = torch.where(torch.arange(40) % 2 == 0, targets, -100)
    with_gaps = streamed(ClassificationMetrics(NAMES), logits, some).compute()
    assert with_gaps == streamed(ClassificationMetrics(NAMES), logits[::2], targets[::2]).compute()


def test_classification__a_logit_that_is_no_number_is_a_sure_and_wrong_answer():
    logits, targets = torch.zeros(1, 9), torch.tensor([3])
    logits[0, 3] = torch.nan
    scores = streamed(ClassificationMetrics(NAMES), logits, targets).compute()
    assert (scores["accuracy"], scores["macro_f1"], scores["calibration_error"]) == (0, 0, 1)


@pytest.mark.parametrize(("label", "right"), [(3, 1), (2, 0)])
def test_classification__an_infinite_logit_is_a_sure_answer(label, right):
    logits, targets = torch.full((1, 9), -torch.inf), torch.tensor([label])
    logits[0, 3] = torch.inf
    scores = streamed(ClassificationMetrics(NAMES), logits, targets).compute()
    assert (scores["accuracy"], scores["macro_f1"], scores["calibration_error"]) == (right, right, 1 - right)


def test_multi_label__a_logit_that_is_no_number_says_no_label():
    logits, targets = torch.tensor([[torch.nan], [torch.nan]]), torch.tensor([[0], [1]])
    scores = streamed(MultiLabelMetrics(NAMES[:1]), logits, targets).compute()
    assert (scores["accuracy"], scores["macro_f1"], scores["auroc"]) == (0.5, 0, 0.5)
    assert scores["calibration_error"] == 0.5


def multi_label(count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(count, classes, generator=generator) < 0.3).long()
    return torch.randn(count, classes, generator=generator) * 2 + 2 * targets - 1, targets


def test_multi_label__equals_scikit_learn():
    logits, targets = multi_label(150, 6)
    targets[:, 4], targets[:, 5] = 0, 1  # labels of none and of all
    logits[:, 4] = -3
    scores = streamed(MultiLabelMetrics(NAMES[:6]), logits, targets).compute()
    said, meant = (logits > 0).numpy(), targets.numpy().astype(bool)
    assert scores["exact_match"] == pytest.approx(sk.accuracy_score(meant, said), abs=1e-12)
    assert scores["accuracy"] == pytest.approx((said == meant).mean(), abs=1e-12)
    f1 = sk.f1_score(meant, said, average="macro", zero_division=np.nan)
    assert scores["macro_f1"] == pytest.approx(f1, abs=1e-12)
    expected = [sk.roc_auc_score(meant[:, i], logits[:, i].numpy()) for i in range(4)]
    found = [scores.per_class[name]["auroc"] for name in NAMES[:4]]
    assert found == pytest.approx(expected, abs=2e-3)
    assert scores["auroc"] == pytest.approx(np.mean(expected), abs=2e-3)
    assert "auroc" not in scores.per_class["class 5"]


def test_auroc__is_off_by_no_more_than_it_says():
    logits, targets = multi_label(400, 3)
    logits = logits / 200  # all in a few dozen bins
    metrics = streamed(MultiLabelMetrics(NAMES[:3]), logits, targets)
    ranking = metrics.counters[2]
    for i, (area, doubt) in enumerate(zip(ranking.areas(), ranking.uncertainties(), strict=True)):
        assert 0.003 < doubt < 0.2
        assert abs(area - sk.roc_auc_score(targets[:, i], logits[:, i])) <= doubt


def test_auroc__is_exact_where_scores_are_bins_apart():
    logits, targets = multi_label(60, 2)
    order = logits.argsort(0).argsort(0).float() / 4 - 8
    scores = streamed(MultiLabelMetrics(NAMES[:2]), order, targets).compute()
    expected = [sk.roc_auc_score(targets[:, i], logits[:, i]) for i in range(2)]
    assert [scores.per_class[name]["auroc"] for name in NAMES[:2]] == pytest.approx(expected, abs=1e-12)


def test_multi_label__unknown_labels_count_nowhere():
    logits, targets = multi_label(80, 4)
    hidden = torch.rand(80, 4, generator=torch.Generator().manual_seed(5)) < 0.3
    scores = streamed(MultiLabelMetrics(NAMES[:4]), logits, targets.masked_fill(hidden, -1)).compute()
    known, meant = ~hidden.numpy(), targets.numpy().astype(bool)
    said = (logits > 0).numpy()
    assert scores["accuracy"] == pytest.approx((said == meant)[known].mean(), abs=1e-12)
    f1 = [sk.f1_score(meant[known[:, i], i], said[known[:, i], i]) for i in range(4)]
    assert scores["macro_f1"] == pytest.approx(np.mean(f1), abs=1e-12)
    auroc = [sk.roc_auc_score(meant[known[:, i], i], logits[known[:, i], i].numpy()) for i in range(4)]
    assert scores["auroc"] == pytest.approx(np.mean(auroc), abs=2e-3)


def test_multi_label__constant_scores_have_an_area_of_a_half():
    metrics = MultiLabelMetrics(["a"])
    metrics.update(torch.full((10, 1), 1.5), torch.tensor([[0], [1]] * 5))
    assert metrics.compute()["auroc"] == 0.5


@pytest.mark.parametrize("kind", [ClassificationMetrics, MultiLabelMetrics])
def test_memory__is_the_same_after_a_hundred_batches(kind):
    metrics = kind(NAMES)
    logits, targets = answers(20, 9) if kind is ClassificationMetrics else multi_label(20, 9)
    before = [counter.counts.numel() for counter in metrics.counters]
    for _ in range(100):
        metrics.update(logits, targets)
    assert [counter.counts.numel() for counter in metrics.counters] == before
    assert all(set(vars(counter)) == {"counts"} for counter in metrics.counters)


def test_merge__two_halves_are_the_whole_to_the_last_bit():
    logits, targets = answers(101, 9)
    left = streamed(ClassificationMetrics(NAMES), logits[:33], targets[:33], batch=33)
    left.merge(streamed(ClassificationMetrics(NAMES), logits[33:], targets[33:], batch=5))
    assert left.compute() == streamed(ClassificationMetrics(NAMES), logits, targets).compute()


def test_reset__forgets_everything():
    logits, targets = answers(30, 9)
    metrics = streamed(ClassificationMetrics(NAMES), logits, targets)
    expected = metrics.compute()
    metrics.reset()
    with pytest.raises(MetricError, match="No picture"):
        metrics.compute()
    assert streamed(metrics, logits, targets).compute() == expected


@pytest.mark.parametrize("as_lists", [False, True])
def test_call__is_what_a_trainer_asks_for(as_lists):
    logits, targets = answers(30, 9)
    expected = streamed(ClassificationMetrics(NAMES), logits, targets).compute()
    gathered = SimpleNamespace(predictions=(logits.numpy(), "hidden states"), label_ids=targets.numpy())
    if as_lists:
        gathered = SimpleNamespace(
            predictions=[(part.numpy(), "hidden states") for part in logits.split(11)],
            label_ids=[part.numpy() for part in targets.split(11)],
        )
    metrics = ClassificationMetrics(NAMES)
    assert metrics(gathered) == dict(expected)
    assert metrics(gathered, compute_result=False) == {}
    assert metrics(gathered) == pytest.approx(dict(expected))


@pytest.mark.parametrize(
    ("kind", "logits", "targets", "message"),
    [
        (ClassificationMetrics, (4, 9), (3,), r"got logits \(4, 9\) and targets \(3,\)"),
        (ClassificationMetrics, (4, 8), (4,), r"Expected logits \(N, 9\)"),
        (ClassificationMetrics, (4, 9, 2), (4,), r"Expected logits \(N, 9\)"),
        (MultiLabelMetrics, (4, 9), (4,), r"targets of shape \(4, 9\)"),
    ],
)
def test_update__shapes_that_do_not_fit_are_refused(kind, logits, targets, message):
    with pytest.raises(MetricError, match=message):
        kind(NAMES).update(torch.zeros(logits), torch.zeros(targets).long())


def test_update__a_label_beyond_the_list_is_refused():
    with pytest.raises(MetricError, match="A label is 9; with 9 classes they are 0 to 8"):
        ClassificationMetrics(NAMES).update(torch.zeros(1, 9), torch.tensor([9]))


def test_metrics__tell_how_often_each_class_was_said_and_meant():
    logits, targets = torch.randn(50, 4), torch.randint(-1, 4, (50,))
    one = ClassificationMetrics("abcd")
    one.update(logits, targets)
    known = targets >= 0
    said, meant = one.said_and_meant()
    assert said.tolist() == np.bincount(logits.argmax(1)[known], minlength=4).tolist()
    assert meant.tolist() == np.bincount(targets[known], minlength=4).tolist()
    several = MultiLabelMetrics("abcd")
    labels = torch.randint(0, 2, (50, 4))
    several.update(logits, labels)
    said, meant = several.said_and_meant()
    assert said.tolist() == (logits >= 0).sum(0).tolist()
    assert meant.tolist() == labels.sum(0).tolist()
