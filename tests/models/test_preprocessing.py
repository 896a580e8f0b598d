import json

import numpy as np
import pytest
import timm.data
import torch
import transformers
from PIL import Image

from lumora.errors import LumoraError
from lumora.models import preprocessing
from lumora.models.preprocessing import Preprocessing


@pytest.fixture(params=[(97, 150), (160, 91)], ids=["wide", "tall"])
def picture(request):
    """Something smooth with edges, as photographs are."""
    height, width = request.param
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 9, width), indexing="ij")
    values = torch.stack([y.sin() * x.cos(), (x + y).sin(), (x * y / 4).cos()])
    values[:, height // 3 : height // 2, width // 4 : width // 2] = 0.9
    return ((values + 1) * 127.5).round().to(torch.uint8)


def of_processor(processor):
    return preprocessing.from_transformers(json.loads(processor.to_json_string()))


def difference(ours, theirs):
    """The largest difference of two arrays in steps of a uint8 picture, and the mean one."""
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item(), (ours - theirs).abs().mean().item()


PROCESSORS = {
    "vit": transformers.ViTImageProcessor(size={"height": 64, "width": 48}),
    "vit, an old number as size": transformers.ViTImageProcessor(size=64, resample=3),
    "deit": transformers.DeiTImageProcessor(size=72, crop_size=64),
    "bit": transformers.BitImageProcessor(size={"shortest_edge": 72}, crop_size=64),
    "clip": transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64),
    "dinov3": transformers.DINOv3ViTImageProcessor(size={"height": 64, "width": 64}),
    "convnext": transformers.ConvNextImageProcessor(size={"shortest_edge": 64}),
    "convnext, large": transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
    "poolformer": transformers.PoolFormerImageProcessor(size={"shortest_edge": 64}, crop_size=64, crop_pct=0.95),
    "levit": transformers.LevitImageProcessor(size={"shortest_edge": 56}, crop_size=56),
    "mobilenet": transformers.MobileNetV2ImageProcessor(size={"shortest_edge": 72}, crop_size=64),
    "mobilevit, blue first": transformers.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size=64),
    "efficientnet": transformers.EfficientNetImageProcessor(size={"height": 64, "width": 64}),
    "efficientnet, with offset": transformers.EfficientNetImageProcessor(
        size={"height": 64, "width": 64}, rescale_factor=1 / 127.5, rescale_offset=True, include_top=False
    ),
    "segformer": transformers.SegformerImageProcessor(size={"height": 64, "width": 64}, do_reduce_labels=True),
    "detr": transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 90}, do_pad=False),
    "not normalised": transformers.ViTImageProcessor(size=64, do_normalize=False),
    "not rescaled": transformers.ViTImageProcessor(size=64, do_rescale=False, do_normalize=False),
    "not resized": transformers.ViTImageProcessor(do_resize=False),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_from_transformers__does_what_the_image_processor_does(name, picture):
    processor = PROCESSORS[name]
    ours = of_processor(processor)
    theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
    step = 0.018 if name == "dinov3" else 1e-4  # it resizes numbers that are not rounded to 255 steps
    torch.testing.assert_close(ours(picture), theirs.float(), rtol=1e-4, atol=step)
    assert ours.notes == ()


def test_from_transformers__reads_which_label_means_nothing():
    assert of_processor(PROCESSORS["segformer"]).reduce_labels
    assert not of_processor(PROCESSORS["vit"]).reduce_labels
    assert preprocessing.from_transformers({"reduce_labels": True, "size": 4}).reduce_labels  # the name it once had


def test_from_transformers__says_what_is_done_otherwise():
    assert "proportions" in of_processor(transformers.SamImageProcessor()).notes[0]
    assert "size" in of_processor(transformers.Siglip2ImageProcessor()).notes[0]


def test_from_transformers__colours_as_words_are_refused():
    with pytest.raises(LumoraError, match="ImageGPT"):
        preprocessing.from_transformers({"size": {"height": 32, "width": 32}, "do_color_quantize": True})


@pytest.mark.parametrize(
    "values",
    [
        {"input_size": (3, 64, 64), "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"},
        {"input_size": (3, 64, 48), "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear"},
        {"input_size": (3, 64, 64), "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"},
    ],
)
def test_from_timm__does_what_timms_transform_does(values, picture):
    values = {**values, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    theirs = timm.data.create_transform(**timm.data.resolve_data_config(values))(image)
    steps = torch.tensor(values["std"])[:, None, None] * 255
    largest, mean = difference(preprocessing.from_timm(values)(picture) * steps, theirs * steps)
    assert largest <= 2.01, "Pillow and torch round differently by one or two steps"
    assert mean < 0.3


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "efficientnet_b0", "swin_v2_t", "fcn_resnet50"])
def test_from_torchvision__does_what_the_weights_transforms_do(name, picture):
    from torchvision import models

    transforms = models.get_model_weights(name).DEFAULT.transforms()
    theirs = transforms(Image.fromarray(picture.permute(1, 2, 0).numpy()))
    steps = torch.tensor(transforms.std)[:, None, None] * 255
    largest, mean = difference(preprocessing.from_torchvision(transforms)(picture) * steps, theirs * steps)
    assert largest <= 2.01, "Pillow and torch round differently by one or two steps"
    assert mean < 0.3


def test_from_smp__reads_the_encoders_values():
    values = {"input_space": "RGB", "input_range": [0, 1], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    ours = preprocessing.from_smp(values)(torch.full((3, 4, 5), 255, dtype=torch.uint8))
    assert ours.shape == (3, 4, 5)
    np.testing.assert_allclose(ours[:, 0, 0], [2.5, 3, 7], rtol=1e-5)


@pytest.mark.parametrize("name", ["vit", "bit", "segformer", "efficientnet", "not normalised", "poolformer"])
def test_to_transformers__is_read_back_by_transformers(name, picture, tmp_path):
    ours = of_processor(PROCESSORS[name])
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(ours.to_transformers()))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(ours(picture), theirs.float(), rtol=1e-4, atol=1e-4)


def test_to_transformers__what_it_cannot_say_is_refused():
    with pytest.raises(LumoraError, match="order of colours"):
        Preprocessing(bgr=True).to_transformers()


@pytest.mark.parametrize("name", PROCESSORS)
def test_from_dict__reads_what_to_dict_gave_through_json(name):
    ours = of_processor(PROCESSORS[name])
    assert Preprocessing.from_dict(json.loads(json.dumps(ours.to_dict()))) == ours


def test_from_dict__unknown_fields_are_refused():
    with pytest.raises(LumoraError, match=r"no means; it has .*mean"):
        Preprocessing.from_dict({"means": [0, 0, 0]})


def test_with_size__keeps_the_proportion_of_crop_to_picture():
    assert Preprocessing(resize=256, crop=(224, 224)).with_size((112, 112)).resize == 128
    assert Preprocessing(resize=(256, 128), crop=(128, 64)).with_size((64, 64)).resize == (128, 128)
    assert Preprocessing(resize=(512, 512)).with_size((64, 32)).size == (64, 32)


@pytest.mark.parametrize("wrong", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 3, dtype=torch.uint8)])
def test_call__what_is_no_picture_is_refused(wrong):
    with pytest.raises(LumoraError, match=r"must be uint8 \(3, H, W\)"):
        Preprocessing()(wrong)
