import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lumora.data.labels import IGNORE
from lumora.data.transforms import (
    classification_eval,
    classification_train,
    generator_for,
    segmentation_eval,
    segmentation_train,
)
from lumora.errors import ConfigError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURE = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MASK = torch.randint(0, 150, (60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_classification_eval__is_torchvisions_resize_crop_and_normalise(crop):
    theirs = v2.Compose(
        [
            v2.Resize(int(32 / crop), antialias=True),
            v2.CenterCrop(32),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    ours, _ = classification_eval(32, MEAN, STD, crop=crop)(PICTURE, None, torch.Generator())
    assert torch.allclose(ours, theirs(PICTURE), atol=1e-5)


def test_classification_eval__squashed_is_what_transformers_vit_processor_gives():
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=list(MEAN), image_std=list(STD))
    theirs = processor(Image.fromarray(PICTURE.permute(1, 2, 0).numpy()), return_tensors="pt")["pixel_values"][0]
    ours, _ = classification_eval(32, MEAN, STD, squash=True)(PICTURE, None, torch.Generator())
    assert (ours - theirs).abs().max() < 1.01 / 255 / min(STD)  # one level of rounding


def test_segmentation_eval__is_what_transformers_segformer_processor_gives():
    from transformers import SegformerImageProcessor

    processor = SegformerImageProcessor(size={"height": 32, "width": 48}, do_reduce_labels=False)
    theirs = processor(
        Image.fromarray(PICTURE.permute(1, 2, 0).numpy()), Image.fromarray(MASK.numpy()), return_tensors="pt"
    )
    ours, mask = segmentation_eval((32, 48), MEAN, STD)(PICTURE, MASK, torch.Generator())
    assert (ours - theirs["pixel_values"][0]).abs().max() < 1.01 / 255 / min(STD)
    assert mask.shape == theirs["labels"][0].shape
    _, own = segmentation_eval((32, 48), MEAN, STD, masks=False)(PICTURE, MASK, torch.Generator())
    assert own is MASK


@pytest.mark.parametrize("size", [24, (24, 36)])
@pytest.mark.parametrize("trivial", [False, True])
def test_training_presets__give_the_size_and_differ_by_epoch(size, trivial):
    shape = (size, size) if isinstance(size, int) else size
    for train in (classification_train(size, MEAN, STD, trivial_augment=trivial), segmentation_train(size, MEAN, STD)):
        results = [train(PICTURE, MASK, generator_for(0, epoch, "a")) for epoch in (0, 0, 1)]
        for picture, mask in results:
            assert picture.shape == (3, *shape)
            assert picture.dtype == torch.float32
            assert mask.shape == shape
        assert torch.equal(results[0][0], results[1][0])
        assert not torch.equal(results[0][0], results[2][0])


def test_segmentation_train__frames_become_about_zero_and_count_nowhere():
    train = segmentation_train(64, MEAN, STD, scale=(0.3, 0.3), colour=None)
    picture, mask = train(PICTURE, MASK, generator_for(0, 0, "a"))
    assert picture[:, mask == IGNORE].abs().max() < 0.01
    assert 0.05 < (mask != IGNORE).float().mean() < 0.2


def test_presets__of_pictures_without_masks_give_none():
    for preset in (classification_train, classification_eval, segmentation_train, segmentation_eval):
        picture, mask = preset(16, MEAN, STD)(PICTURE, None, generator_for(0, 0, "a"))
        assert picture.shape == (3, 16, 16)
        assert mask is None


def test_classification_eval__says_what_a_crop_is():
    with pytest.raises(ConfigError, match=r"crop=87\.5; it is a share"):
        classification_eval(16, MEAN, STD, crop=87.5)
