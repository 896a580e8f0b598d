import torch

from lumora.data import Labels
from lumora.predict import plain
from lumora.tasks import LabelPrediction

LABELS = Labels(tuple("abcd"))


def test_plain__all_that_were_chosen_have_their_probabilities():
    said = plain(LabelPrediction((0, 2, 3), torch.tensor([0.9, 0.1, 0.8, 0.7])), LABELS, 2)
    assert said["labels"] == ["a", "c", "d"]
    assert list(said["probabilities"]) == ["a", "c", "d"]


def test_plain__as_many_of_the_likeliest_as_were_asked_for():
    prediction = LabelPrediction((0,), torch.tensor([0.4, 0.1, 0.3, 0.2]))
    assert list(plain(prediction, LABELS, 2)["probabilities"]) == ["a", "c"]
    assert list(plain(prediction, LABELS)["probabilities"]) == ["a", "c", "d", "b"]
