import pytest
import torch
import transformers
from torch import nn

from lumora.models import load_base
from lumora.models.untrained import start_anew


def tiny_vit():
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    return transformers.ViTForImageClassification(config)


def tiny_segformer():
    config = transformers.SegformerConfig(hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=32, num_labels=5)
    return transformers.SegformerForSemanticSegmentation(config)


@pytest.mark.parametrize("make", [tiny_vit, tiny_segformer, lambda: load_base().module])
def test_start_anew__forgets_every_weight_and_keeps_the_structure(make):
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    start_anew(model)
    after = model.state_dict()
    assert {name: value.shape for name, value in after.items()} == {n: value.shape for n, value in before.items()}
    for name, value in after.items():
        assert torch.isfinite(value).all()
        assert value.dim() < 2 or value.numel() < 2 or not torch.equal(value, before[name]), name
        assert "running_mean" not in name or not value.any()


def test_start_anew__draws_convolutions_by_what_each_output_reaches():
    plain, depthwise = nn.Conv2d(64, 128, 3), nn.Conv2d(512, 512, 3, groups=512)
    start_anew(nn.Sequential(plain, depthwise))
    assert float(plain.weight.std()) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.05)
    assert float(depthwise.weight.std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert not plain.bias.any()


def test_start_anew__is_the_same_for_the_same_seed():
    models = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)) for _ in range(2)]
    for model in models:
        torch.manual_seed(5)
        start_anew(model)
    assert all(map(torch.equal, *(m.state_dict().values() for m in models)))
