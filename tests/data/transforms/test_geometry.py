"""Where pixels go: against torchvision where it computes the same, and on pictures that are their own masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from lumora.data.labels import IGNORE
from lumora.data.transforms import (
    CentreCrop,
    Compose,
    Flip,
    Pad,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ScaleJitter,
    TrivialAugment,
    generator_for,
)
from lumora.errors import ConfigError

FILL = (255, 255, 255)
SIZES = st.one_of(st.integers(1, 40), st.tuples(st.integers(1, 40), st.integers(1, 40)))
NEAREST = {
    "resize": lambda size: Resize(size, "nearest"),
    "pad": lambda size: Pad(size, FILL),
    "centre crop": lambda size: CentreCrop(size, FILL),
    "random crop": lambda size: RandomCrop(size, FILL),
    "random resized crop": lambda size: RandomResizedCrop(size, interpolation="nearest"),
    "scale jitter": lambda size: ScaleJitter(size, interpolation="nearest", fill=FILL),
    "small scale jitter": lambda size: ScaleJitter(size, (0.1, 0.6), "nearest", FILL),
    "flip": lambda size: Flip(0.5, 0.5),
    "trivial": lambda size: Compose((RandomCrop(size, FILL), TrivialAugment(FILL))),
}
MOVING_ONLY = ("trivial",)


def picture_and_mask(height, width, seed=0, dtype=torch.uint8):
    """A mask of noise, and the picture that looks the same."""
    mask = torch.randint(0, 200, (height, width), generator=torch.Generator().manual_seed(seed)).to(dtype)
    return mask.to(torch.uint8).repeat(3, 1, 1), mask


@pytest.mark.parametrize("name", [name for name in NEAREST if name not in MOVING_ONLY])
@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50), size=SIZES, seed=st.integers(0, 2**32))
def test_geometry__a_picture_that_is_its_own_mask_stays_so(name, height, width, size, seed):
    picture, mask = picture_and_mask(height, width, seed)
    picture, mask = NEAREST[name](size)(picture, mask, generator_for(seed, 0, "a"))
    assert picture.dtype == mask.dtype == torch.uint8
    assert torch.equal(picture, mask.expand(3, -1, -1))  # IGNORE lies where FILL does: both are 255


@settings(max_examples=60, deadline=None)
@given(side=st.integers(1, 50), seed=st.integers(0, 2**32))
def test_trivial_augment__moves_the_mask_with_the_picture(side, seed):
    picture, mask = picture_and_mask(side, side + 3, seed)
    moved, moved_mask = TrivialAugment(FILL)(picture, mask, generator_for(seed, 0, "a"))
    if torch.equal(moved_mask, mask):
        return  # colours only, or nothing
    assert torch.equal(moved, moved_mask.expand(3, -1, -1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    "step",
    [Resize, RandomResizedCrop, lambda size, **k: ScaleJitter(size, fill=FILL, **k)],
    ids=["resize", "crop", "jitter"],
)
def test_geometry__smoothed_pictures_lie_where_their_masks_do(step, interpolation):
    # On slopes, smoothing changes nothing but the outermost pixels; a shift by half a pixel would show as 2 levels.
    down, across = torch.arange(50).view(-1, 1), torch.arange(60).view(1, -1)
    for slope in (down * 4, across * 4, (59 - across) * 4):
        mask = slope.expand(50, 60).to(torch.uint8)
        picture = mask.expand(3, -1, -1)
        for seed in range(20):
            new, new_mask = step((150, 180), interpolation=interpolation)(picture, mask, generator_for(seed, 0, "a"))
            counted = new_mask != IGNORE
            difference = (new[0].float() - new_mask.float())[counted]
            assert difference.abs().mean() < 1.6, seed  # nearest pixels are at most half a step of 4 away
            assert difference.mean().abs() < 0.75, seed


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(1, 50))
def test_resize__is_torchvisions(height, width, size):
    picture, _ = picture_and_mask(height, width)
    for goal in (size, (size, 7)):
        new, _ = Resize(goal)(picture, None, torch.Generator())
        if new.shape == (3, 1, 1):  # torch fails on this in `uint8`
            assert torch.equal(new, v2.Resize(goal, antialias=True)(picture.float()).round().to(torch.uint8))
        else:
            assert torch.equal(new, v2.Resize(goal, antialias=True)(picture))


def test_resize__can_leave_the_mask_alone():
    picture, mask = picture_and_mask(20, 30)
    new, same = Resize((8, 8), masks=False)(picture, mask, torch.Generator())
    assert new.shape == (3, 8, 8)
    assert same is mask


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_centre_crop__is_torchvisions(height, width, size):
    picture, _ = picture_and_mask(height, width)
    new, _ = CentreCrop(size, (0, 0, 0))(picture, None, torch.Generator())
    assert torch.equal(new, F.center_crop(picture, list(size)))


def test_random_resized_crop__draws_parts_as_torchvision_does():
    # Same distribution of the part's height, width and place: compared by means over many draws.
    picture = torch.zeros(3, 300, 400, dtype=torch.uint8)
    torch.manual_seed(0)
    draws = [v2.RandomResizedCrop(8).make_params([picture]) for _ in range(3000)]
    theirs = torch.tensor([[draw[name] for name in ("top", "left", "height", "width")] for draw in draws])
    ours = torch.tensor([RandomResizedCrop(8)._part(300, 400, generator_for(0, i, "a")) for i in range(3000)])
    for column in range(4):
        assert ours[:, column].float().mean().item() == pytest.approx(theirs[:, column].float().mean().item(), rel=0.05)
        assert ours[:, column].float().std().item() == pytest.approx(theirs[:, column].float().std().item(), rel=0.08)


def test_random_resized_crop__is_the_resized_part():
    picture, mask = picture_and_mask(60, 80)
    top, left, height, width = RandomResizedCrop(24)._part(60, 80, generator_for(1, 2, "a"))
    new, new_mask = RandomResizedCrop(24)(picture, mask, generator_for(1, 2, "a"))
    assert torch.equal(new, F.resized_crop(picture, top, left, height, width, [24, 24], antialias=True))
    part = F.resize(mask[None, top : top + height, left : left + width], [24, 24], v2.InterpolationMode.NEAREST_EXACT)
    assert torch.equal(new_mask, part[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 400)])
def test_random_resized_crop__takes_pictures_of_any_shape(shape):
    picture, mask = picture_and_mask(*shape)
    for seed in range(5):
        new, new_mask = RandomResizedCrop(16)(picture, mask, generator_for(seed, 0, "a"))
        assert new.shape[1:] == new_mask.shape == (16, 16)


def test_scale_jitter__shows_the_share_of_the_picture_that_its_scale_says():
    mask = torch.arange(100 * 120).view(100, 120).to(torch.int32) % 60_000
    picture = torch.zeros(3, 100, 120, dtype=torch.uint8)
    for seed in range(30):
        _, new = ScaleJitter(50, (2.0, 2.0))(picture, mask, generator_for(seed, 0, "a"))
        # Height fits 50 at scale 1, so at 2 half the height is seen, pixel for pixel of the original.
        rows = new[:, 0] // 120
        assert rows[-1] - rows[0] == 49
        assert torch.equal(new - new[0, 0], (mask - mask[0, 0])[:50, :50])


def test_scale_jitter__frames_small_pictures_with_the_fill_and_ignore():
    picture, mask = picture_and_mask(40, 40)
    seen = set()
    for seed in range(20):
        new, new_mask = ScaleJitter(40, (0.5, 0.5), fill=(1, 2, 3))(picture, mask, generator_for(seed, 0, "a"))
        inside = (new_mask != IGNORE).nonzero()
        assert len(inside) == 400
        assert new[:, new_mask == IGNORE].unique(dim=1).flatten().tolist() == [1, 2, 3]
        seen.add(tuple(inside[0].tolist()))
    assert len(seen) > 10  # anywhere in the frame


def test_scale_jitter__reaches_every_part_at_every_scale():
    mask = (torch.arange(64).view(8, 8) + 1).to(torch.uint8).repeat_interleave(10, 0).repeat_interleave(10, 1)
    picture = mask.expand(3, -1, -1)
    seen = torch.zeros(65)
    for seed in range(200):
        _, new = ScaleJitter(40)(picture, mask, generator_for(seed, 0, "a"))
        seen[new[new != IGNORE].unique().long()] += 1
    assert seen[1:].min() > 20


def test_frames__wide_masks_get_the_value_that_wide_masks_ignore():
    picture, _ = picture_and_mask(4, 4)
    mask = torch.full((4, 4), 300, dtype=torch.int32)
    _, padded = Pad(6)(picture, mask, torch.Generator())
    assert padded.unique().tolist() == [300, 65_535]


def test_random_crop__is_anywhere_and_only_there():
    picture, mask = picture_and_mask(6, 5)
    found = set()
    for seed in range(300):
        new, _ = RandomCrop((4, 4))(picture, mask, generator_for(seed, 0, "a"))
        places = [(y, x) for y in range(3) for x in range(2) if torch.equal(picture[:, y : y + 4, x : x + 4], new)]
        found.update(places)
        assert places
    assert len(found) == 6


def test_flip__swaps_as_often_as_asked():
    picture, _ = picture_and_mask(3, 4)
    counts = {"none": 0, "h": 0, "v": 0, "hv": 0}
    forms = {"none": picture, "h": picture.flip(-1), "v": picture.flip(-2), "hv": picture.flip(-1, -2)}
    for seed in range(2000):
        new, _ = Flip(0.5, 0.25)(picture, None, generator_for(seed, 0, "a"))
        counts[next(name for name, form in forms.items() if torch.equal(form, new))] += 1
    expected = {"none": 0.375, "h": 0.375, "v": 0.125, "hv": 0.125}
    for name, share in expected.items():
        assert counts[name] / 2000 == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("name", NEAREST)
def test_geometry__never_writes_into_what_it_was_given(name):
    picture, mask = picture_and_mask(30, 30)
    kept, kept_mask = picture.clone(), mask.clone()
    for seed in range(10):
        new, new_mask = NEAREST[name](20)(picture, mask, generator_for(seed, 0, "a"))
        del new, new_mask
    assert torch.equal(picture, kept)
    assert torch.equal(mask, kept_mask)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Resize(0), "Resize was given size=0"),
        (lambda: CentreCrop((4, -1)), "number of pixels"),
        (lambda: Resize(4, "cubic"), "nearest, bilinear, bicubic, lanczos"),
        (lambda: RandomResizedCrop(4, area=(0.5, 2.0)), "at most 1"),
        (lambda: RandomResizedCrop(4, ratio=(2, 1)), "low ≤ high"),
        (lambda: ScaleJitter(4, (0.0, 1.0)), "above 0"),
        (lambda: Flip(1.5), "probability, from 0 to 1"),
    ],
)
def test_geometry__says_what_is_wrong_with_its_settings(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
