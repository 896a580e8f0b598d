"""Colours, against torchvision's in floating point."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from lumora.data.transforms import ColourJitter, generator_for
from lumora.data.transforms.colour import brighten, changed, contrast, saturate, turn_hue
from lumora.errors import ConfigError

THEIRS = {
    brighten: F.adjust_brightness,
    contrast: F.adjust_contrast,
    saturate: F.adjust_saturation,
    turn_hue: F.adjust_hue,
}


def every_kind_of_colour():
    """A cube of colours with all its corners, edges, greys and what lies between."""
    levels = torch.tensor([0, 1, 2, 63, 127, 128, 200, 254, 255], dtype=torch.uint8)
    return torch.cartesian_prod(levels, levels, levels).t().reshape(3, 27, 27).contiguous()


FACTORS = (0.0, 0.3, 0.9, 1.0, 1.4, 3.0)
TURNS = (-0.5, -0.31, -0.1, 0.0, 0.05, 0.25, 0.5)


@pytest.mark.parametrize(
    ("change", "amount"), [(change, a) for change in THEIRS for a in (TURNS if change is turn_hue else FACTORS)]
)
def test_changes__are_torchvisions_in_floating_point(change, amount):
    picture = every_kind_of_colour()
    theirs = THEIRS[change](picture.double() / 255, amount) * 255
    assert (changed(picture, [(change, amount)]).double() - theirs).abs().max() <= 0.501  # rounded, and no more


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(list(THEIRS)),
    factors=st.tuples(*[st.floats(0, 2)] * 3),
    hue=st.floats(-0.5, 0.5),
    interleaved=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_changes__in_any_order_are_torchvisions(order, factors, hue, interleaved, seed):
    picture = torch.randint(0, 256, (3, 19, 23), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    amounts = dict(zip((brighten, contrast, saturate), factors, strict=True)) | {turn_hue: hue}
    theirs = picture.double() / 255
    for change in order:
        theirs = THEIRS[change](theirs, amounts[change])
    given_picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1) if interleaved else picture
    ours = changed(given_picture, [(change, amounts[change]) for change in order])
    assert (ours.double() - theirs * 255).abs().max() <= 0.501


def test_changes__of_large_pictures_are_those_of_their_parts():
    picture = torch.randint(0, 256, (3, 300, 301), dtype=torch.uint8)  # several blocks and a rest
    for change, amount in ((turn_hue, 0.2), (saturate, 1.5), (brighten, 0.7)):
        whole = changed(picture, [(change, amount)])
        for part in (slice(0, 100), slice(100, 300)):
            assert torch.equal(changed(picture[:, part], [(change, amount)]), whole[:, part])


def test_colour_jitter__draws_within_its_ranges_and_in_every_order():
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    levels = [int(ColourJitter(brightness=0.5)(grey, None, generator_for(0, i, "a"))[0][0, 0, 0]) for i in range(500)]
    assert 50 <= min(levels) < 55
    assert 145 < max(levels) <= 150
    red = torch.tensor([200, 20, 20], dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 2)
    jitter = ColourJitter(brightness=(2.0, 2.0), contrast=(0.2, 0.2))  # they do not commute where values are cut off
    assert len({tuple(jitter(red, None, generator_for(0, i, "a"))[0][:, 0, 0].tolist()) for i in range(50)}) == 2


def test_colour_jitter__of_nothing_returns_the_picture_itself():
    picture = every_kind_of_colour()
    assert ColourJitter()(picture, None, torch.Generator())[0] is picture


def test_colour_jitter__leaves_picture_and_mask_as_they_were():
    picture, mask = every_kind_of_colour(), torch.zeros(27, 27, dtype=torch.uint8)
    kept = picture.clone()
    _, same = ColourJitter(0.4, 0.4, 0.4, 0.1)(picture, mask, torch.Generator())
    assert same is mask
    assert torch.equal(picture, kept)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"brightness": -0.1}, "brightness=-0.1"),
        ({"contrast": (1.0, 0.5)}, "contrast from 1 to 0.5"),
        ({"hue": 0.6}, "-0.5 ≤ low ≤ high ≤ 0.5"),
        ({"saturation": (-1, 2)}, "saturation from -1 to 2"),
    ],
)
def test_colour_jitter__says_what_is_wrong_with_its_settings(settings, says):
    with pytest.raises(ConfigError, match=says):
        ColourJitter(**settings)
