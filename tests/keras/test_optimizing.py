"""The optimizer of transformers' TensorFlow guides, by its formulas."""

import math

import keras
import numpy as np
import pytest
from tests.keras.making import value

from lumora.errors import ConfigError
from lumora.integrations.keras import WarmUp, create_optimizer, create_schedule


def rates(schedule, steps):
    return [float(value(schedule(step))) for step in steps]


def test_polynomial__rises_and_falls_in_straight_lines():
    expected = [0, 0.005, 0.01, 0.006, 0.002, 0.002]  # down to a fifth
    schedule = create_schedule(0.01, 110, warmup=10, end=0.2)
    np.testing.assert_allclose(rates(schedule, (0, 5, 10, 60, 110, 200)), expected, rtol=1e-5, atol=1e-9)


def test_polynomial__of_a_power_follows_it():
    schedule = create_schedule(0.01, 100, power=2.0)
    expected = [0.01 * (1 - step / 100) ** 2 for step in (0, 30, 99)]
    np.testing.assert_allclose(rates(schedule, (0, 30, 99)), expected, rtol=1e-5)


def test_cosine__falls_as_half_a_wave():
    schedule = create_schedule(0.1, 60, warmup=10, decay="cosine", end=0.1)
    expected = [0.1 * (0.9 * 0.5 * (1 + math.cos(math.pi * part)) + 0.1) for part in (0, 0.5, 1)]
    np.testing.assert_allclose(rates(schedule, (10, 35, 60)), expected, rtol=1e-5)


def test_warm_up__is_the_same_after_it_was_written_down():
    schedule = create_schedule(0.01, 100, warmup=20, decay="cosine")
    assert isinstance(schedule, WarmUp)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    steps = (0, 7, 20, 70)
    assert rates(again, steps) == rates(schedule, steps)


def test_weight_decay__leaves_biases_and_norms_alone():
    layers = [keras.Input((3,)), keras.layers.Dense(2, name="x"), keras.layers.LayerNormalization(name="n")]
    model = keras.Sequential(layers)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer, schedule = create_optimizer(0.1, 10, weight_decay_rate=0.5)
    variables = model.trainable_variables
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    found = {variable.name: float(value(variable).flat[0]) for variable in variables}
    # Without gradients AdamW multiplies by 1 - rate * decay, and by nothing else.
    assert found == pytest.approx({"kernel": 1 - 0.1 * 0.5, "bias": 1, "gamma": 1, "beta": 1})
    assert rates(schedule, (0,)) == pytest.approx([0.1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rate": 0}, "above 0"),
        ({"warmup": 10}, "10 steps of 10 are for warming up"),
        ({"decay": "linear"}, "'polynomial' or 'cosine'"),
        ({"end": 2}, "between 0 and 1"),
    ],
)
def test_schedule__refuses_what_makes_no_sense(arguments, words):
    with pytest.raises(ConfigError, match=words):
        create_schedule(**{"rate": 0.1, "steps": 10, **arguments})
