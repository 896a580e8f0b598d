"""Against torchvision's TrivialAugmentWide, change by change."""

from collections import Counter

import pytest
import torch
from torchvision.transforms import v2

from lumora.data.transforms import TrivialAugment, generator_for
from lumora.data.transforms.trivial_augment import NAMES, apply

THEIRS = {
    "shear x": "ShearX",
    "shear y": "ShearY",
    "shift x": "TranslateX",
    "shift y": "TranslateY",
    "turn": "Rotate",
    "nothing": "Identity",
    "brightness": "Brightness",
    "saturation": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterise": "Posterize",
    "solarise": "Solarize",
    "spread": "AutoContrast",
    "equalise": "Equalize",
}
PICTURE = torch.randint(0, 256, (3, 37, 41), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def exact(values, step):
    """What torchvision computes in `float32`, where it gets 15.999999 for 16 and so shifts by 15 pixels."""
    if not values.is_floating_point():
        return int(values[step])
    first, last = (round(float(values[i]), 6) for i in (0, -1))
    return first + (last - first) * step / 30


@pytest.mark.parametrize("name", NAMES)
def test_changes__are_torchvisions(name):
    theirs = v2.TrivialAugmentWide()
    strengths, signed = theirs._AUGMENTATION_SPACE[THEIRS[name]]
    values = strengths(31, 37, 41)
    for step in range(31):
        for sign in (1, -1) if signed else (1,):
            magnitude = 0.0 if values is None else sign * exact(values, step)
            expected = theirs._apply_image_or_video_transform(
                PICTURE, THEIRS[name], magnitude, v2.InterpolationMode.NEAREST, {torch.Tensor: None}
            )
            ours, _ = apply(name, sign * step / 30, PICTURE, None, (0, 0, 0))
            assert torch.equal(ours, expected), step


def test_trivial_augment__knows_all_of_torchvisions_and_draws_them_evenly(monkeypatch):
    assert set(THEIRS.values()) == set(v2.TrivialAugmentWide._AUGMENTATION_SPACE)
    drawn = Counter()

    def noting(name, strength, picture, mask, fill):
        drawn[name] += 1
        assert -1 <= strength <= 1
        return picture, mask

    monkeypatch.setattr("lumora.data.transforms.trivial_augment.apply", noting)
    for epoch in range(2800):
        TrivialAugment()(PICTURE, None, generator_for(0, epoch, "a"))
    assert set(drawn) == set(NAMES)
    assert min(drawn.values()) > 140
    assert max(drawn.values()) < 260
