import math

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from lumora.training.schedule import factor


def test_factor__cosine_is_what_transformers_does_one_step_later():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=10, num_training_steps=100)
    expected = []
    for _ in range(100):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    got = [factor(step, 100, 0.1, "cosine") for step in range(100)]
    assert got[10:] == pytest.approx(expected[10:])
    assert got[:9] == pytest.approx(expected[1:10])  # the first step is not wasted at a rate of zero


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.99])
def test_factor__rises_to_one_and_stays_above_zero(shape, steps, warmup):
    factors = [factor(step, steps, warmup, shape) for step in range(steps)]
    top = max(0, round(warmup * steps) - 1)
    assert all(0 < value <= 1 for value in factors)
    assert math.isclose(factors[top], 1)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
