import pytest
import torch
from torchvision.transforms.v2 import functional as F

from lumora.data.transforms import Normalise, ToFloat
from lumora.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("interleaved", [False, True])
def test_normalise__is_torchvisions(interleaved):
    pictures = torch.randint(0, 256, (5, 3, 17, 19), dtype=torch.uint8)
    expected = F.normalize(F.to_dtype(pictures, torch.float64, scale=True), list(MEAN), list(STD))
    if interleaved:
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    ours = Normalise(MEAN, STD).applied(pictures)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    assert torch.allclose(ours.double(), expected, atol=2e-6)


def test_normalise__of_a_batch_is_bit_for_bit_that_of_its_pictures():
    pictures = torch.randint(0, 256, (4, 3, 33, 31), dtype=torch.uint8)
    batch = Normalise(MEAN, STD).applied(pictures)
    for one, whole in zip(pictures, batch, strict=True):
        assert torch.equal(Normalise(MEAN, STD)(one, None, torch.Generator())[0], whole)


def test_normalise__after_to_float_is_the_same():
    pictures = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    floats = ToFloat().applied(pictures)
    assert torch.allclose(floats, pictures / 255)
    assert torch.allclose(Normalise(MEAN, STD).applied(floats), Normalise(MEAN, STD).applied(pictures), atol=1e-6)
    assert ToFloat().applied(floats) is floats


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((0.5, 0.5), STD, "three numbers"),
        (MEAN, (0.2, 0.0, 0.2), "stds above 0"),
        ((124, 116, 104), STD, "divide by 255"),
    ],
)
def test_normalise__says_what_is_wrong_with_its_settings(mean, std, says):
    with pytest.raises(ConfigError, match=says):
        Normalise(mean, std)
