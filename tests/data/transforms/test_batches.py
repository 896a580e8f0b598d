import pytest
import torch
from torchvision.transforms import v2

from lumora.data.transforms import CutMix, Mixup, generator_for
from lumora.errors import ConfigError

PICTURES = torch.rand(6, 3, 12, 15, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def test_mixup__is_torchvisions_for_the_same_share():
    mixed, shares = Mixup(classes=4, alpha=0.8)(PICTURES, LABELS, generator_for(0, 0, "batch"))
    own = shares[0, 0].item()  # picture 0's neighbour has another class
    theirs = v2.MixUp(num_classes=4)
    params = {"labels": LABELS, "batch_size": 6, "lam": own}
    assert torch.allclose(mixed, theirs.transform(PICTURES, params), atol=1e-6)
    assert torch.allclose(shares, theirs.transform(LABELS, params), atol=1e-6)


def test_cutmix__labels_are_shares_of_area_and_the_rest_is_the_picture_itself():
    areas = []
    for epoch in range(50):
        mixed, shares = CutMix(classes=4)(PICTURES, LABELS, generator_for(0, epoch, "batch"))
        own, other = mixed == PICTURES, mixed == PICTURES.roll(1, 0)
        assert (own | other).all()
        area = own.float().mean().item()
        assert shares[0, 0].item() == pytest.approx(area, abs=1e-5)
        assert torch.allclose(shares.sum(1), torch.ones(6))
        replaced = (~own[0, 0]).nonzero()
        if len(replaced):
            (top, left), (bottom, right) = replaced.min(0).values.tolist(), replaced.max(0).values.tolist()
            assert len(replaced) == (bottom - top + 1) * (right - left + 1)  # a rectangle
        areas.append(area)
    assert min(areas) < 0.3
    assert max(areas) > 0.9


@pytest.mark.parametrize("mix", [Mixup(4), CutMix(4)])
def test_mixes__follow_from_the_generator_and_change_nothing_given(mix):
    kept = PICTURES.clone()
    first, again, other = (mix(PICTURES, LABELS, generator_for(0, epoch, "batch"))[0] for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(PICTURES, kept)


def test_mixes__take_labels_that_are_shares_already():
    once, shares = Mixup(4)(PICTURES, LABELS, generator_for(0, 0, "batch"))
    _, twice = CutMix(4)(once, shares, generator_for(0, 0, "batch"))
    assert torch.allclose(twice.sum(1), torch.ones(6))


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda: Mixup(1), "≥ 2 classes"),
        (lambda: CutMix(3, alpha=0), "alpha above 0"),
        (lambda: Mixup(4)(PICTURES[0], LABELS, torch.Generator()), "takes a batch"),
        (lambda: CutMix(4)(PICTURES.to(torch.uint8), LABELS, torch.Generator()), "after ToFloat or Normalise"),
    ],
)
def test_mixes__say_what_is_wrong(run, says):
    with pytest.raises(ConfigError, match=says):
        run()
