"""Mean IoU and its companions against their published definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from tests.tasks.published import mean_iou, reduced

from lumora.errors import MetricError
from lumora.tasks.metrics import SegmentationMetrics

K = 7
NAMES = tuple(f"class {i}" for i in range(K))


def masks(count: int, seed: int = 0, size: tuple[int, int] = (24, 32)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predictions that are right most of the time, labels with ignored pixels; classes 5 and 6 are special."""
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, 5, size) for _ in range(count)]
    predicted = [np.where(rng.random(size) < 0.7, mask, rng.integers(0, 6, size)) for mask in labels]
    for mask in labels:  # 5 is predicted and never there, 6 is neither
        mask[rng.random(size) < 0.1] = 255
    return predicted, labels


def counted(predicted, labels, ignore=255) -> SegmentationMetrics:
    metrics = SegmentationMetrics(NAMES, ignore)
    for one, other in zip(predicted, labels, strict=True):
        metrics.update_masks(torch.from_numpy(one), torch.from_numpy(other))
    return metrics


def assert_as_published(scores, expected) -> None:
    for name in ("mean_iou", "mean_accuracy", "overall_accuracy"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-12)
    for measure in ("iou", "accuracy"):
        for name, value in zip(NAMES, expected[f"per_category_{measure}"], strict=True):
            found = scores.per_class.get(name, {}).get(measure)
            assert found == (None if np.isnan(value) else pytest.approx(value, abs=1e-12))


def test_mean_iou__is_its_published_definition():
    predicted, labels = masks(5)
    scores = counted(predicted, labels).compute()
    assert_as_published(scores, mean_iou(predicted, labels, K, 255))
    assert scores.per_class["class 5"] == {"iou": 0.0}  # predicted, never there: it counts, and has no accuracy
    assert "class 6" not in scores.per_class


def test_mean_iou__of_the_published_example():
    # The example in the documentation of evaluate's mean_iou, with the numbers that it prints.
    predicted = [[[1, 2], [3, 4], [5, 255]], [[2, 7], [9, 2], [3, 6]], [[2, 2, 3], [8, 2, 4], [3, 255, 2]]]
    labels = [[[0, 3], [5, 4], [6, 255]], [[1, 7], [9, 2], [3, 6]], [[1, 2, 2], [8, 2, 1], [3, 255, 1]]]
    metrics = SegmentationMetrics([str(i) for i in range(10)])
    for one, other in zip(predicted, labels, strict=True):
        one = torch.tensor(one)
        metrics.update_masks(torch.where(one == 255, 0, one), torch.tensor(other))  # ours is of models: always a class
    scores = metrics.compute()
    assert scores["mean_iou"] == pytest.approx(0.4775)
    assert scores["mean_accuracy"] == pytest.approx(0.591666666)
    assert scores["overall_accuracy"] == pytest.approx(0.526315789)


def test_mean_iou__of_reduced_labels_is_that_of_reducing_once():
    predicted, _ = masks(4)
    raw = [np.random.default_rng(i).integers(0, K + 1, (24, 32)) for i in range(4)]  # 0 is "nothing", 1 is class 0
    expected = mean_iou(predicted, raw, K, 255, reduce_labels=True)
    assert_as_published(counted(predicted, [reduced(mask) for mask in raw]).compute(), expected)


@pytest.mark.parametrize("ignore", [0, 3, 255, 65_535, -100])
def test_mean_iou__any_value_can_be_ignored(ignore):
    predicted, labels = masks(3)
    labels = [np.where(mask == 255, ignore, mask) for mask in labels]
    assert_as_published(counted(predicted, labels, ignore).compute(), mean_iou(predicted, labels, K, ignore))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_mean_iou__is_its_published_definition_for_any_masks(data):
    height, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    ids = st.integers(0, K - 1)
    size = height * width
    predicted = data.draw(st.lists(ids, min_size=size, max_size=size))
    labels = data.draw(st.lists(ids | st.just(255), min_size=size, max_size=size))
    if all(label == 255 for label in labels):
        labels[0] = 1
    one, other = (np.array(values).reshape(height, width) for values in (predicted, labels))
    assert_as_published(counted([one], [other]).compute(), mean_iou([one], [other], K, 255))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("small", [(6, 8), (24, 32), (5, 31), (1, 1), (48, 64)])
def test_update__takes_logits_to_the_masks_size(small, dtype):
    logits = torch.randn(3, K, *small, generator=torch.Generator().manual_seed(0))
    _, labels = masks(3)
    metrics = SegmentationMetrics(NAMES)
    metrics.update(logits, torch.from_numpy(np.stack(labels)).to(dtype))
    large = F.interpolate(logits.double(), (24, 32), mode="bilinear", align_corners=False).argmax(1)
    assert_as_published(metrics.compute(), mean_iou(list(large.numpy()), labels, K, 255))


def test_update__masks_of_different_sizes():
    logits = torch.randn(2, K, 6, 8)
    labels = [masks(1, seed=i, size=size)[1][0] for i, size in enumerate([(24, 32), (17, 9)])]
    metrics = SegmentationMetrics(NAMES)
    metrics.update(logits, [torch.from_numpy(mask) for mask in labels])
    large = [F.interpolate(x[None], y.shape, mode="bilinear")[0].argmax(0) for x, y in zip(logits, labels, strict=True)]
    assert_as_published(metrics.compute(), mean_iou([mask.numpy() for mask in large], labels, K, 255))


def test_boundary_f__is_computed_where_asked_for():
    mask = torch.zeros(40, 40, dtype=torch.int64)
    mask[:, 20:] = 1
    metrics = SegmentationMetrics(NAMES, boundary=0.02)  # 1.1 pixels
    metrics.update_masks(mask, mask)
    metrics.update_masks(mask.roll(1, 1).index_fill(1, torch.tensor(0), 0), mask)  # one pixel further
    assert metrics.compute()["boundary_f"] == 1
    metrics.update_masks(mask.roll(5, 1).index_fill(1, torch.arange(5), 0), mask)
    assert metrics.compute()["boundary_f"] == pytest.approx(2 / 3)
    assert "boundary_f" not in counted(*masks(1)).compute()


@pytest.mark.parametrize("boundary", [None, 0.01])
def test_compute__says_what_is_wrong_with_labels(boundary):
    metrics = SegmentationMetrics(NAMES, boundary=boundary)
    metrics.update_masks(torch.zeros(2, 2), torch.tensor([[0, K], [254, -1]]))
    with pytest.raises(MetricError, match="3 pixels have a label that is neither one of the 7 classes"):
        metrics.compute()


def test_compute__nothing_that_counts():
    metrics = SegmentationMetrics(NAMES)
    metrics.update_masks(torch.zeros(2, 2), torch.full((2, 2), 255))
    with pytest.raises(MetricError, match="No pixel was counted"):
        metrics.compute()


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ((2, K, 4, 4), (3, 8, 8), "got logits .* and 3 masks"),
        ((2, K + 1, 4, 4), (2, 8, 8), r"Expected logits \(N, 7, h, w\)"),
        ((2, K), (2, 8, 8), r"Expected logits \(N, 7, h, w\)"),
    ],
)
def test_update__shapes_that_do_not_fit_are_refused(logits, labels, message):
    with pytest.raises(MetricError, match=message):
        SegmentationMetrics(NAMES).update(torch.zeros(logits), torch.zeros(labels).long())


def test_update_masks__what_does_not_fit_is_refused():
    with pytest.raises(MetricError, match="A predicted mask is"):
        SegmentationMetrics(NAMES).update_masks(torch.zeros(2, 2), torch.zeros(2, 3))
    for wrong in (9, -1, 255):
        with pytest.raises(MetricError, match=f"Predicted ids are {wrong} to {wrong}; with 7 classes they are 0 to 6"):
            SegmentationMetrics(NAMES).update_masks(torch.full((2, 2), wrong), torch.full((2, 2), 6))


def test_merge__two_halves_are_the_whole_to_the_last_bit():
    predicted, labels = masks(7)
    left = counted(predicted[:3], labels[:3])
    left.merge(counted(predicted[3:], labels[3:]))
    assert left.compute() == counted(predicted, labels).compute()


def test_memory__is_the_same_after_a_hundred_pictures():
    metrics = SegmentationMetrics(NAMES, boundary=0.01)
    before = [counter.counts.shape for counter in metrics.counters]
    predicted, labels = masks(4)
    for _ in range(25):
        for one, other in zip(predicted, labels, strict=True):
            metrics.update_masks(torch.from_numpy(one), torch.from_numpy(other))
    assert [counter.counts.shape for counter in metrics.counters] == before


def test_flat__names_the_classes_as_the_guides_do():
    flat = counted(*masks(1)).compute().flat()
    assert {"mean_iou", "iou_class 0", "accuracy_class 0"} <= flat.keys()


def test_metrics__tell_of_how_many_pixels_each_class_was_said_and_meant():
    logits, masks = torch.randn(2, 3, 6, 5), torch.randint(0, 3, (2, 6, 5))
    masks[:, 0] = 255
    metrics = SegmentationMetrics("abc")
    metrics.update(logits, masks)
    counted = masks != 255
    said, meant = metrics.said_and_meant()
    assert said.tolist() == logits.argmax(1)[counted].bincount(minlength=3).tolist()
    assert meant.tolist() == masks[counted].bincount(minlength=3).tolist()


def test_confusion__is_scikit_learns():
    torch.manual_seed(0)
    masks, logits = torch.randint(0, 4, (3, 9, 7)), torch.randn(3, 4, 9, 7)
    masks[0, :3] = 255
    metrics = SegmentationMetrics(["sky", "sea", "sand", "ship"])
    for part in (slice(0, 2), slice(2, 3)):
        metrics.update(logits[part], masks[part])
    counting = masks != 255
    expected = confusion_matrix(masks[counting], logits.argmax(1)[counting])
    assert metrics.confusion().tolist() == expected.tolist()
