"""One evaluation for training and for whoever uses what was trained."""

import pytest
import torch
from torch import nn

from lumora.data import Labels
from lumora.errors import SelfTestError
from lumora.tasks import Classification, Segmentation
from lumora.tasks.evaluating import evaluate, proved, usual_batch_size

TASK = Classification(Labels(("cat", "dog")))


class Says(nn.Module):
    """The logits of what the pixels say, and dropout that would change them."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(1.0)

    def forward(self, pixel_values):
        return self.drop(pixel_values)


def batches(count, size=4):
    numbers = torch.Generator().manual_seed(0)
    return [
        {"pixel_values": torch.randn(size, 2, generator=numbers), "labels": torch.randint(0, 2, (size,))}
        for _ in range(count)
    ]


def test_evaluate__counts_and_leaves_modes_as_they_were():
    model = nn.Sequential(Says(), Says().eval())
    given = batches(3)
    told, looked = [], []
    metrics = evaluate(
        model, TASK, given, seen=told.append, beside=lambda logits, targets: looked.append((logits, targets))
    )
    right = sum(int((batch["pixel_values"].argmax(1) == batch["labels"]).sum()) for batch in given)
    assert metrics.scores()["accuracy"] == right / 12
    assert told == [4, 8, 12]
    assert all(logits.equal(b["pixel_values"]) for (logits, _), b in zip(looked, given, strict=True))
    assert all(targets.equal(b["labels"]) for (_, targets), b in zip(looked, given, strict=True))
    assert [module.training for module in model.modules()] == [True, True, True, False, False]


def test_evaluate__leaves_modes_as_they_were_when_it_fails():
    model = Says()
    with pytest.raises(KeyError):
        evaluate(model, TASK, [{}])
    assert model.training


def test_proved__gives_the_same_batches_and_reads_no_more_than_two_ahead():
    given, taken = batches(5), []

    def counted():
        for batch in given:
            taken.append(batch)
            yield batch

    for number, batch in enumerate(proved(TASK, counted())):
        assert batch is given[number]
        assert len(taken) <= max(2, number + 1)
    assert number == 4
    assert list(proved(TASK, [])) == []


def test_proved__stops_an_evaluation_that_is_wrong(monkeypatch):
    monkeypatch.setattr(Classification, "logits_of", lambda self, answers: torch.zeros(len(answers), 2))
    with pytest.raises(SelfTestError, match="The evaluation is wired wrongly"):
        next(proved(TASK, [{"labels": torch.tensor([0, 1, 1])}]))


def test_proved__takes_masks_of_different_sizes():
    task = Segmentation(Labels(("sky", "sea")))
    masks = [torch.zeros(8, 12, dtype=torch.int64), torch.ones(6, 6, dtype=torch.int64)]
    assert len(list(proved(task, [{"labels": masks}]))) == 1


def test_usual_batch_size():
    assert (usual_batch_size("segmentation"), usual_batch_size("multilabel")) == (4, 32)
