from inspect import signature

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lumora.data import transforms
from lumora.data.transforms import (
    CentreCrop,
    ColourJitter,
    Compose,
    Flip,
    Normalise,
    RandomResizedCrop,
    Resize,
    ToFloat,
    TrivialAugment,
    generator_for,
    stages,
)
from lumora.data.transforms.randomness import below, beta, uniform

NORMALISE = Normalise((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
NO_STEPS = {"GREY", "Fixed", "Values", "Transform", "Stages", "stages", "generator_for", "Mixup", "CutMix"}
GIVEN = {
    "size": 32,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.2, 0.2, 0.2),
    "steps": (Flip(), TrivialAugment()),
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "horizontal": 0.5,
    "vertical": 0.5,
}


def test_generator_for__is_known_by_seed_epoch_and_key_and_by_these_alone():
    def numbers(*of):
        return tuple(torch.randint(2**31, (2,), generator=generator_for(*of)).tolist())

    torch.manual_seed(1)
    first = numbers(0, 0, "a")
    torch.rand(5)
    assert numbers(0, 0, "a") == first == (1999612493, 41241337)  # on every machine, in every version
    others = [numbers(1, 0, "a"), numbers(0, 1, "a"), numbers(0, 0, "b"), numbers(0, 11, "1"), numbers(0, 1, "11")]
    assert len({first, *others}) == 6


def test_generator_for__takes_keys_in_any_script_and_names_that_are_not_text():
    assert len({generator_for(0, 0, key).initial_seed() for key in ("é", "е", "猫/1.jpg", "\udcff.png", "")}) == 5


@given(seed=st.integers(0, 2**64), alpha=st.floats(0.05, 8))
def test_draws__stay_in_their_ranges(seed, alpha):
    generator = generator_for(seed, 0, "a")
    assert 0 <= beta(generator, alpha) <= 1
    assert below(generator, 1) == 0
    assert 2 <= uniform(generator, 2, 3) < 3


def test_stages__are_what_is_fixed_what_is_drawn_and_what_a_batch_can_do():
    resize, crop, flip = Resize(8), CentreCrop(8), Flip()
    found = stages(Compose((Compose((resize, crop)), flip, resize, ToFloat(), NORMALISE)))
    assert found.fixed == (resize, crop)
    assert found.drawn == (flip, resize)
    assert found.values == (ToFloat(), NORMALISE)


def test_stages__take_any_function_for_drawn():
    def own(picture, mask, generator):
        return picture, mask

    assert stages(own).drawn == (own,)
    assert stages(Compose((own, NORMALISE))).fixed == ()
    assert stages(Compose((ToFloat(), Flip()))).fixed == ()  # a cache holds `uint8`


@pytest.mark.parametrize("seed", range(5))
def test_stages__one_after_the_other_are_the_pipeline(seed):
    pipeline = Compose((Resize(20), RandomResizedCrop(8), Flip(), ColourJitter(0.2, 0.2, 0.2, 0.1), NORMALISE))
    picture, mask = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8), torch.zeros(30, 40, dtype=torch.uint8)
    whole, whole_mask = pipeline(picture, mask, generator_for(seed, 0, "a"))
    generator = generator_for(seed, 0, "a")
    parts = stages(pipeline)
    for step in (*parts.fixed, *parts.drawn, *parts.values):
        picture, mask = step(picture, mask, generator)
    assert torch.equal(picture, whole)
    assert torch.equal(mask, whole_mask)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    "step",
    [getattr(transforms, name) for name in transforms.__all__ if name not in NO_STEPS],
    ids=lambda step: step.__name__,
)
def test_steps__leave_what_they_are_given_as_it_is(step, interleaved):
    step = step(**{name: value for name, value in GIVEN.items() if name in signature(step).parameters})
    picture = torch.randint(256, (3, 41, 30), dtype=torch.uint8)
    if interleaved:
        picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    mask = torch.randint(5, (41, 30), dtype=torch.uint8)
    before = picture.clone(), mask.clone()
    for seed in range(40):
        step(picture, mask, generator_for(seed, 0, "a"))
        assert torch.equal(picture, before[0])
        assert torch.equal(mask, before[1])
