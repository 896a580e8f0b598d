"""Measuring holds a few batches, however many samples there are."""

import gc
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.data.making import noise
from tests.predict.making import tensor

from lumora.predict.evaluating import measure
from lumora.tasks.worst import Judged

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Drawn:
    number: int
    path: Path | None = None

    @property
    def key(self):
        return f"picture {self.number}"

    @property
    def target(self):
        return self.number % 3

    def picture(self):
        return tensor(noise(40, 50, seed=self.number))

    def mask(self):
        return None


@pytest.mark.parametrize("batch_size", [1, 4])
def test_measure__holds_a_few_batches_at_most(classifier, batch_size):
    held = []

    def seen(done):
        tensors = (one for one in gc.get_objects() if type(one) is torch.Tensor)
        held.append(sum(tuple(one.shape[-3:]) == (3, 32, 32) for one in tensors))

    samples = [Drawn(number) for number in range(60)]
    found = measure(classifier.model, classifier.about, samples, batch_size=batch_size, keep=5, seen=seen)
    assert found.pictures == 60
    assert len(found.worst) == 5
    assert len(held) == 60 // batch_size
    # Those that are read ahead, those that the metrics prove themselves on, and the batch on its way.
    assert max(held) <= 6 * batch_size + 4
    assert sum(type(one) is Judged for one in gc.get_objects()) <= 5 + 1


def test_measure__leaves_the_model_as_it_was(classifier):
    forwards = {name: module.forward.__func__ for name, module in classifier.model.named_modules()}
    before = {name: tensor.clone() for name, tensor in classifier.model.state_dict().items()}
    measure(classifier.model, classifier.about, [Drawn(number) for number in range(4)])
    assert {name: module.forward.__func__ for name, module in classifier.model.named_modules()} == forwards
    assert all(before[name].equal(tensor) for name, tensor in classifier.model.state_dict().items())
    assert not classifier.model.training
