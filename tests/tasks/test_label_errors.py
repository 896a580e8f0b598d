import numpy as np
import torch

from lumora.data import Labels
from lumora.tasks import Classification, MultiLabel
from lumora.tasks.label_errors import (
    UsualConfidence,
    UsualOfEachLabel,
    UsualOfPixels,
    doubtful_share,
    likely_errors_of_labels,
    likely_label_errors,
)
from lumora.tasks.worst import Worst

NAMES = ("cat", "dog", "owl")


def looked_at(logits, targets, batch=7):
    worst, usual = Worst(Classification(Labels(NAMES)), keep=99), UsualConfidence(3)
    keys = [str(i) for i in range(len(targets))]
    for at in range(0, len(targets), batch):
        part = slice(at, at + batch)
        worst.update(logits[part], targets[part], keys[part])
        usual.update(logits[part], targets[part])
    return likely_label_errors(worst.found(), usual.of_classes())


def by_hand(logits, targets):
    """Confident learning as its paper has it, over numpy: which samples, by how much."""
    likely = np.exp(logits.numpy().astype(float))
    likely /= likely.sum(1, keepdims=True)
    labels = targets.numpy()
    usual = {k: likely[labels == k, k].mean() for k in set(labels[labels >= 0])}
    found = {}
    for i, label in enumerate(labels):
        said = likely[i].argmax()
        if label >= 0 and said != label and said in usual and likely[i, said] >= usual[said]:
            found[str(i)] = likely[i, said] - likely[i, label]
    return sorted(found, key=lambda key: -found[key])


def test_likely_label_errors__are_those_of_confident_learning():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (120,), generator=generator)
    logits = torch.randn(120, 3, generator=generator) + 2.5 * torch.nn.functional.one_hot(targets, 3)
    logits[3], targets[4] = 0.0, -1
    wrong = torch.arange(0, 120, 10)
    targets[wrong] = (targets[wrong] + 1) % 3
    found = [judged.key for judged in looked_at(logits, targets)]
    assert found == by_hand(logits, targets)
    assert len(set(found) & {str(int(i)) for i in wrong}) > len(wrong) // 2


def test_likely_label_errors__of_a_class_without_pictures_there_are_none():
    logits, targets = torch.tensor([[0.0, 9.0, 0.0], [5.0, 0.0, 0.0]]), torch.tensor([0, 0])
    assert looked_at(logits, targets) == []


def test_likely_errors_of_labels__each_label_is_asked_by_itself():
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 2, (150, 3), generator=generator)
    logits = torch.randn(150, 3, generator=generator) + 3.0 * (2 * targets - 1)
    wrong = torch.arange(0, 150, 15)
    targets[wrong, wrong % 3] = 1 - targets[wrong, wrong % 3]
    targets[7, 1] = -1
    worst, usual = Worst(MultiLabel(Labels(NAMES)), keep=99), UsualOfEachLabel(3)
    for at in range(0, 150, 8):
        part = slice(at, at + 8)
        worst.update(logits[part], targets[part], [str(i) for i in range(150)[part]])
        usual.update(logits[part], targets[part])
    found = {judged.key for judged in likely_errors_of_labels(worst.found(), *usual.of_labels())}

    likely, labels = 1 / (1 + np.exp(-logits.numpy().astype(float))), targets.numpy()
    there = [likely[labels[:, k] == 1, k].mean() for k in range(3)]
    absent = [(1 - likely[labels[:, k] == 0, k]).mean() for k in range(3)]
    expected = {
        str(i)
        for i in range(150)
        for k in range(3)
        if (labels[i, k] == 0 and likely[i, k] >= max(0.5, there[k]))
        or (labels[i, k] == 1 and likely[i, k] < 0.5 and 1 - likely[i, k] >= absent[k])
    }
    assert found == expected
    assert len(found & {str(int(i)) for i in wrong}) > len(wrong) // 2
    assert UsualOfEachLabel(2).of_labels()[0].tolist() == [torch.inf, torch.inf]


def test_doubtful_share__is_greatest_for_the_masks_that_are_wrong():
    generator = torch.Generator().manual_seed(2)
    true = torch.randint(0, 3, (12, 2, 3), generator=generator)
    true = true.repeat_interleave(8, 1).repeat_interleave(8, 2)  # (12, 16, 24)
    logits = torch.randn(12, 3, 16, 24, generator=generator) + 3.0 * torch.nn.functional.one_hot(true, 3).movedim(-1, 1)
    masks = true.clone()
    masks[3, :8], masks[5, :, :12] = (masks[3, :8] + 1) % 3, 2
    masks[7, :4] = 255
    usual = UsualOfPixels(3, 255)
    for at in range(0, 12, 5):
        usual.update(logits[at : at + 5], masks[at : at + 5])
    found = [doubtful_share(one, mask, usual.of_classes(), 255) for one, mask in zip(logits, masks, strict=True)]

    likely = np.exp(logits.numpy().astype(float))
    likely /= likely.sum(1, keepdims=True)
    labels, said = masks.numpy(), likely.argmax(1)
    means = np.array([likely[:, k][labels == k].mean() for k in range(3)])
    doubted = (labels != 255) & (said != labels) & (likely.max(1) >= means[said])
    expected = doubted.sum((1, 2)) / (labels != 255).sum((1, 2))
    np.testing.assert_allclose(usual.of_classes().numpy(), means)
    np.testing.assert_allclose(found, expected)
    assert {int(i) for i in np.argsort(found)[-2:]} == {3, 5}


def test_doubtful_share__of_a_mask_that_is_larger_than_the_logits():
    logits = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])  # left the first class, right the second
    mask = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0]])
    usual = torch.tensor([0.9, 0.9])
    assert doubtful_share(logits, mask, usual, 255) == 0.5
    assert doubtful_share(logits, mask, torch.tensor([0.9, torch.inf]), 255) == 0
    assert doubtful_share(logits, torch.full((2, 4), 255), usual, 255) == 0
