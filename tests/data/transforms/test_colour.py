"""Colours, against torchvision's in floating point."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from lumora.data.transforms import ColourJitter, generator_for
from lumora.data.transforms.colour import brighten, changed, contrast, saturate, turn_hue
from lumora.errors import ConfigError

THEIRS = {brighten: F.adjust_brightness, contrast: F.adjust_contrast, saturate: F.adjust_saturation}


def every_kind_of_colour():
    """A cube of colours with all its corners, edges, greys and what lies between."""
    levels = torch.tensor([0, 1, 2, 63, 127, 128, 200, 254, 255], dtype=torch.uint8)
    return torch.cartesian_prod(levels, levels, levels).t().reshape(3, 27, 27).contiguous()


def noise(height=19, width=23, low=0, high=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("change", THEIRS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("amount", [0.0, 0.3, 0.9, 1.0, 1.4, 3.0])
def test_changes__are_torchvisions_in_floating_point(change, amount):
    picture = every_kind_of_colour()
    theirs = THEIRS[change](picture.double() / 255, amount) * 255
    assert (changed(picture, [(change, amount)]).double() - theirs).abs().max() <= 0.501  # rounded, and no more


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(list(THEIRS)),
    factors=st.tuples(*[st.floats(0.8, 1.2)] * 3),
    interleaved=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_changes__in_any_order_are_torchvisions_where_nothing_is_cut_off(order, factors, interleaved, seed):
    picture = noise(low=90, high=150, seed=seed)
    theirs = picture.double() / 255
    for change, amount in zip(order, factors, strict=True):
        theirs = THEIRS[change](theirs, amount)
    assert theirs.min() > 0
    assert theirs.max() < 1
    given_picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1) if interleaved else picture
    ours = changed(given_picture, list(zip(order, factors, strict=True)))
    assert (ours.double() - theirs * 255).abs().max() <= 0.501


@pytest.mark.parametrize("turn", [-0.5, -0.2, -0.05, 0.1, 0.3])
def test_turn_hue__keeps_brightness_and_greys_and_turns_by_its_angle(turn):
    picture = noise(low=110, high=146)
    turned = changed(picture, [(turn_hue, turn)]).double()
    old, new = picture.double(), turned

    def brightness(colours):
        return (colours * torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(0)

    assert (brightness(old) - brightness(new)).abs().max() < 1
    # The plane of colours across the axis of greys, by the television's definition.
    axes = torch.tensor([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64)
    before, after = (torch.view_as_complex((axes @ c.flatten(1)).t().contiguous()) for c in (old, new))
    strong = before.abs() > 12
    angle = (after / before)[strong].angle() / (2 * torch.pi)
    # The television counts from red the other way round.
    difference = (-angle - turn + 0.5) % 1 - 0.5
    assert strong.sum() > 50
    assert difference.abs().max() < 0.03
    grey = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    assert torch.equal(changed(grey, [(turn_hue, turn)]), grey)


@pytest.mark.parametrize("turn", [-0.1, 0.1])
def test_turn_hue__goes_the_way_that_torchvisions_does(turn):
    picture = noise(low=60, high=190)
    theirs = {sign: F.adjust_hue(picture.double() / 255, sign * turn) * 255 for sign in (1, -1)}
    ours = changed(picture, [(turn_hue, turn)]).double()
    assert (ours - theirs[1]).abs().mean() < 0.5 * (ours - theirs[-1]).abs().mean()


def test_changes__of_large_pictures_are_those_of_their_parts():
    picture = noise(500, 401)  # several blocks and a rest
    for change, amount in ((turn_hue, 0.2), (saturate, 1.5), (brighten, 0.7)):
        whole = changed(picture, [(change, amount)])
        for part in (slice(0, 100), slice(100, 500)):
            assert torch.equal(changed(picture[:, part], [(change, amount)]), whole[:, part])


@pytest.mark.parametrize("interleaved", [False, True])
def test_changes__of_large_pictures_are_torchvisions(interleaved):
    picture = noise(500, 401)  # several blocks and a rest
    theirs = F.adjust_contrast(picture.double() / 255, 1.3) * 255
    given_picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1) if interleaved else picture
    assert (changed(given_picture, [(contrast, 1.3)]).double() - theirs).abs().max() <= 0.501


def test_colour_jitter__draws_within_its_ranges_and_in_every_order():
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    levels = [int(ColourJitter(brightness=0.5)(grey, None, generator_for(0, i, "a"))[0][0, 0, 0]) for i in range(500)]
    assert 50 <= min(levels) < 55
    assert 145 < max(levels) <= 150
    kinds = set()
    for i in range(60):
        seen = []
        jitter = ColourJitter(brightness=(1.5, 1.5), contrast=(0.5, 0.5), saturation=(0.5, 0.5), hue=(0.1, 0.1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "lumora.data.transforms.colour.changed", lambda picture, changes, seen=seen: seen.extend(changes)
            )
            jitter(grey, None, generator_for(0, i, "a"))
        assert sorted(amount for _, amount in seen) == [0.1, 0.5, 0.5, 1.5]
        kinds.add(tuple(change.__name__ for change, _ in seen))
    assert len(kinds) > 18  # of 24


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
