from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from lumora.data import Labels
from lumora.tasks import Classification, MaskPrediction, MultiLabel, Segmentation
from lumora.tasks.worst import Worst

LABELS = Labels(("cat", "dog", "owl"))


def fed(worst, logits, targets, size=7):
    keys = [f"picture {i}" for i in range(len(logits))]
    for start in range(0, len(logits), size):
        part = slice(start, start + size)
        worst.update(logits[part], targets[part], keys[part])
    return worst.found()


def test_worst__of_labels_is_what_sorting_all_by_confidence_gives():
    torch.manual_seed(0)
    logits, targets = torch.randn(100, 3), torch.randint(0, 3, (100,))
    likely = logits.softmax(1).numpy()
    said = likely.argmax(1)
    wrong = np.flatnonzero(said != targets.numpy())
    gap = likely[wrong, said[wrong]] - likely[wrong, targets.numpy()[wrong]]
    expected = wrong[np.argsort(-gap)][:10]
    found = fed(Worst(Classification(LABELS), keep=10), logits, targets)
    assert [judged.place for judged in found] == expected.tolist()
    assert [judged.key for judged in found] == [f"picture {i}" for i in expected]
    assert [judged.wrongness for judged in found] == pytest.approx(np.sort(gap)[::-1][:10].tolist())
    assert [judged.prediction.chosen for judged in found] == [(int(said[i]),) for i in expected]
    assert [int(judged.target) for judged in found] == targets[expected].tolist()


def test_worst__of_several_labels_goes_by_the_one_that_is_most_wrong():
    logits = torch.tensor([[4.0, -4.0, -4.0], [4.0, 2.0, -4.0], [-4.0, -1.0, -4.0], [3.0, -4.0, 3.0]])
    targets = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, -1]])
    found = fed(Worst(MultiLabel(LABELS)), logits, targets)
    assert [judged.place for judged in found] == [3, 1, 2]  # the first is right
    assert found[0].wrongness == pytest.approx(1 / (1 + np.exp(-3)))  # the third label is not known


def test_worst__of_masks_goes_by_the_mean_iou_of_each_picture():
    task = Segmentation(LABELS)
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (30, 8, 8), generator=generator)
    said = torch.where(torch.rand(masks.shape, generator=generator) < 0.3, torch.randint(0, 3, masks.shape), masks)
    masks[:, 0] = LABELS.ignore
    masks[:, 1:, 4:][:6] = 0
    said[:, 1:, 4:][:6] = 0
    found = fed(Worst(task, keep=5), task.logits_of(said), masks)
    counting = masks != LABELS.ignore
    iou = [
        jaccard_score(m[c].numpy(), s[c].numpy(), average="macro")
        for m, s, c in zip(masks, said, counting, strict=True)
    ]
    expected = np.argsort(iou, kind="stable")[:5]
    assert [judged.place for judged in found] == expected.tolist()
    assert [1 - judged.wrongness for judged in found] == pytest.approx([iou[i] for i in expected])
    assert torch.equal(found[0].prediction.mask.long(), said[found[0].place])
    assert torch.equal(found[0].target.long(), masks[found[0].place])


def test_worst__of_masks_of_different_sizes():
    task = Segmentation(LABELS)
    worst = Worst(task)
    worst.update(task.logits_of(torch.zeros(2, 4, 4)), [torch.zeros(4, 4), torch.ones(6, 9)], ["right", "wrong"])
    [judged] = worst.found()
    assert judged.key == "wrong"
    assert judged.prediction.mask.shape == (6, 9)


@pytest.mark.parametrize(
    ("task", "logits", "target"),
    [
        (Classification(LABELS), torch.tensor([[3.0, 0, 0]]), torch.tensor([0])),
        (Classification(LABELS), torch.tensor([[3.0, 0, 0]]), torch.tensor([-1])),
        (MultiLabel(LABELS), torch.tensor([[3.0, -2, -2]]), torch.tensor([[1.0, 0, -1]])),
        (Segmentation(LABELS), torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), LABELS.ignore)),
    ],
)
def test_worst__what_is_right_or_not_known_is_no_mistake(task, logits, target):
    assert fed(Worst(task), logits, target) == []


@pytest.mark.parametrize(
    ("task", "target"),
    [(Classification(LABELS), torch.tensor([0, 1])), (MultiLabel(LABELS), torch.tensor([[1.0, 0, 0], [0, 1, 0]]))],
)
def test_worst__an_answer_that_is_no_number_is_as_wrong_as_can_be(task, target):
    found = fed(Worst(task), torch.full((2, 3), float("nan")), target)
    assert [judged.wrongness for judged in found] == [1, 1]


def test_worst__of_equals_the_first_are_kept_and_none_where_none_is_wanted():
    logits, targets = torch.tensor([[2.0, 0, 0]]).repeat(9, 1), torch.ones(9, dtype=torch.int64)
    assert [judged.place for judged in fed(Worst(Classification(LABELS), keep=3), logits, targets, 2)] == [0, 1, 2]
    assert fed(Worst(Classification(LABELS), keep=0), logits, targets) == []


def test_worst__takes_no_more_memory_for_more_samples():
    task = Segmentation(LABELS)

    def peak(batches):
        worst = Worst(task, keep=2)
        tracemalloc.start()
        held = []
        for i in range(batches):
            torch.manual_seed(i)
            worst.update(torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8)), ["a", "b"])
            held.append(len(worst.found()))
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        tensors = [t for judged in worst.found() for t in (judged.prediction.mask, judged.target)]
        return max(held), size, sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    few, many = peak(5), peak(50)
    assert many[0] == few[0] == 2
    assert many[1] < few[1] + 20_000
    assert many[2] == few[2] == 4 * 64  # a byte a pixel: no batch is held on to


def test_wrongness__of_masks_counts_classes_that_were_only_said():
    task = Segmentation(LABELS)
    prediction = MaskPrediction(torch.tensor([[0, 1]], dtype=torch.uint8))
    assert task.wrongness(prediction, torch.tensor([[0, 0]])) == pytest.approx(1 - (0.5 + 0) / 2)
