"""`preprocessor_config.json` makes transformers see what the bundle's own preprocessing sees."""

import dataclasses

import pytest
import torch
import transformers
from PIL import Image
from tests.bundle.making import about_of, adapted, base_of, ready_base

from lumora.bundle import write
from lumora.models import Preprocessing

PICTURES = [(90, 120), (120, 90), (64, 64), (31, 200)]


def picture_of(height, width):
    numbers = torch.Generator().manual_seed(height * width)
    coarse = torch.randint(0, 256, (1, 3, 6, 6), generator=numbers).float()
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return smooth.round().to(torch.uint8)


def check_same_pixels(folder, about, size, tolerance=1.01):
    """Equal within one of the 256 steps of a colour."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    picture = picture_of(*size)
    theirs = processor(Image.fromarray(picture.permute(1, 2, 0).numpy()), return_tensors="pt")["pixel_values"][0]
    mine = about.at_size(picture)
    assert theirs.shape == mine.shape
    step = about.preprocessing.rescale / min(about.preprocessing.std)
    assert float((theirs - mine).abs().max()) <= tolerance * step


@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("kind", ["vit", "segformer", "timm-light", "embedded-light"])
def test_processor__gives_the_same_pixels(kind, size, tmp_path):
    base, side = base_of(kind, tmp_path / "base")
    about = about_of(base, side)
    write(tmp_path / "bundle", adapted(base), about)
    check_same_pixels(tmp_path / "bundle", about, size)


@pytest.mark.parametrize("size", [(90, 120), (120, 90), (64, 64)])
def test_processor__crops_the_same_middle(size, tmp_path):
    base, _ = base_of("embedded", None)
    about = about_of(base, 112)
    assert about.at_size.crop == (112, 112)
    write(tmp_path / "bundle", adapted(base), about)
    check_same_pixels(tmp_path / "bundle", about, size)


def test_processor__kinds_are_those_that_the_task_needs(tmp_path):
    base, side = base_of("segformer", tmp_path / "base")
    write(tmp_path / "mask", adapted(base), about_of(base, side))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "mask")
    assert hasattr(processor, "post_process_semantic_segmentation")
    assert dict(processor.size) == {"height": 64, "width": 64}


def test_processor__is_left_out_where_transformers_has_none(tmp_path):
    base = ready_base()
    about = dataclasses.replace(about_of(base, 64), preprocessing=Preprocessing(bgr=True))
    write(tmp_path / "bundle", adapted(base), about)
    assert not (tmp_path / "bundle/preprocessor_config.json").exists()
