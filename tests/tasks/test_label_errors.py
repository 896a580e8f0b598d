import numpy as np
import torch

from lumora.data import Labels
from lumora.tasks import Classification
from lumora.tasks.label_errors import UsualConfidence, likely_label_errors
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
