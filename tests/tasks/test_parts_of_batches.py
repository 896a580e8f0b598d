"""A batch that is computed in parts has the loss, and so the gradients, that it has as a whole."""

import pytest
import torch

from lumora.data import Labels
from lumora.tasks import Classification, MultiLabel, Segmentation
from lumora.tasks.base import Others

LABELS = Labels(("a", "b", "c"))
WEIGHTS = (1.0, 7.0, 0.1)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ids(*shape, lowest=0, seed=1):
    return torch.randint(lowest, 3, shape, generator=torch.Generator().manual_seed(seed))


def masks():
    """The first has few pixels that count, the last none."""
    found = ids(5, 12, 12)
    found[0, 1:] = found[4] = 255
    return found


CASES = {
    "ids": (Classification(LABELS), drawn(5, 3), ids(5, lowest=-1)),
    "weighed ids": (Classification(LABELS, 0.1, WEIGHTS), drawn(5, 3), ids(5)),
    "shares": (Classification(LABELS, 0.0, WEIGHTS), drawn(5, 3), drawn(5, 3, seed=4).softmax(1)),
    "several labels": (MultiLabel(LABELS), drawn(5, 3), ids(5, 3, lowest=-1).clamp(max=1)),
    "masks": (Segmentation(LABELS), drawn(5, 3, 4, 4), masks()),
    "weighed masks": (Segmentation(LABELS, 0.1, WEIGHTS), drawn(5, 3, 4, 4), masks()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("parts", [[4, 1], [1, 2, 2]])
def test_losses__of_parts_by_their_weights_are_those_of_the_whole(name, parts):
    task, logits, targets = CASES[name]
    whole = task.losses(logits, targets)
    summed, weights = torch.zeros_like(whole), torch.zeros(len(whole), dtype=torch.float64)
    for some, their in zip(logits.split(parts), targets.split(parts), strict=True):
        weight = task.weights(their).double()
        summed += task.losses(some, their) * weight
        weights += weight
    torch.testing.assert_close(weights, task.weights(targets).double())
    torch.testing.assert_close((summed / weights).to(whole), whole)
    torch.testing.assert_close(task.loss(logits, targets), whole.sum())


@pytest.mark.parametrize("parts", [[4, 1], [2, 3]])
def test_dice__of_parts_that_add_up_is_that_of_the_whole(parts):
    """Each part is computed twice: once to hear its sums, and then with those of all."""
    task, targets = Segmentation(LABELS, 0.1, WEIGHTS, dice=0.5), masks()
    assert task.sums == 3 * len(LABELS)
    logits = drawn(5, 3, 4, 4).requires_grad_()
    whole = task.losses(logits, targets)
    [expected] = torch.autograd.grad(whole.sum(), logits)
    pieces = list(zip(logits.split(parts), targets.split(parts), strict=True))
    heard = []
    for some, their in pieces:
        task.losses(some, their, Others(lambda sums: heard.append(sums.clone()), 1.0))
    summed, weights = 0.0, task.weights(targets).double()
    for some, their in pieces:
        others = Others(lambda sums: sums.copy_(sum(heard)), len(their) / len(targets))
        summed = summed + (task.losses(some, their, others) * task.weights(their).double() / weights).sum()
    torch.testing.assert_close(summed, whole.sum())
    [found] = torch.autograd.grad(summed, logits)
    torch.testing.assert_close(found, expected)
