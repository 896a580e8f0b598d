import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lumora.errors import LumoraError
from lumora.models import MultiScaleHead
from lumora.models.heads import find_output_layers, replace_layer


def side_by_side(head, maps):
    """The head in the plain order: everything enlarged first, then mixed by one product over all maps together."""
    size = maps[0].shape[2:]
    enlarged = []
    for level, features in zip(head.levels, maps, strict=True):
        projected = level[2](level[1](level[0](features.movedim(1, -1)))).movedim(-1, 1)
        enlarged.append(F.interpolate(projected, size=size, mode="bilinear", align_corners=False))
    weight = torch.cat([level[3].weight for level in head.levels], dim=1)
    mixed = F.conv2d(torch.cat(enlarged, dim=1), weight[:, :, None, None])
    fused = F.gelu(F.layer_norm(mixed.movedim(1, -1), mixed.shape[1:2], head.norm.weight, head.norm.bias))
    return (fused @ head.classifier.weight.T + head.classifier.bias).movedim(-1, 1)


@pytest.mark.parametrize("sizes", [[(12, 16), (6, 8), (3, 4)], [(5, 7), (3, 4), (2, 2)], [(4, 4), (4, 4), (4, 4)]])
def test_head__is_what_mixing_everything_at_the_finest_size_gives(sizes):
    torch.manual_seed(0)
    head = MultiScaleHead((6, 8, 10), num_labels=5, width=4).double().eval()
    maps = [torch.randn(2, c, *size, dtype=torch.double) for c, size in zip((6, 8, 10), sizes, strict=True)]
    torch.testing.assert_close(head(maps), side_by_side(head, maps))


def test_head__gradients_are_those_of_the_plain_order():
    torch.manual_seed(0)
    head = MultiScaleHead((6, 8), num_labels=3, width=4).double().eval()
    other = copy.deepcopy(head)
    maps = [torch.randn(1, 6, 6, 6, dtype=torch.double), torch.randn(1, 8, 3, 3, dtype=torch.double)]
    torch.manual_seed(1)
    weights = torch.randn(1, 3, 6, 6, dtype=torch.double)
    (head(maps) * weights).sum().backward()
    (side_by_side(other, maps) * weights).sum().backward()
    for mine, plain in zip(head.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, plain.grad)


@pytest.mark.parametrize(
    ("channels", "labels", "width"), [((768,) * 4, 150, 128), ((24, 40, 112, 320), 11, 128), ((3,), 1, 2)]
)
def test_head__has_as_many_parameters_as_documented(channels, labels, width):
    head = MultiScaleHead(channels, labels, width)
    documented = width * (sum(channels) + len(channels) * (width + 2) + 2 + labels) + labels
    assert sum(p.numel() for p in head.parameters()) == documented


def test_head__is_small():
    vit_b = sum(p.numel() for p in MultiScaleHead((768,) * 4, 150).parameters())
    assert vit_b < 0.006 * 86_000_000


def test_head__drops_channels_in_training_only():
    torch.manual_seed(0)
    head, maps = MultiScaleHead((4,), 3, 8, dropout=0.5), [torch.randn(1, 4, 5, 5)]
    assert not head(maps).equal(head(maps))
    head.eval()
    assert head(maps).equal(head(maps))


def test_head__number_of_maps_is_checked():
    with pytest.raises(LumoraError, match="takes 2 feature maps, but got 1"):
        MultiScaleHead((4, 4), 3)([torch.randn(1, 4, 5, 5)])


def test_find_output_layers__takes_the_last_that_ran_not_the_last_in_the_list():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.body = nn.Linear(8, 8), nn.Linear(192, 8)

        def forward(self, x):
            return self.out(self.body(x.flatten(1)))

    assert find_output_layers(Turned(), (8, 8)) == (["out"], torch.Size([1, 8]))


@pytest.mark.parametrize("old", [nn.Linear(4, 9, bias=False), nn.Conv2d(4, 9, 3, padding=1, dilation=1, bias=True)])
def test_replace_layer__keeps_everything_but_the_number_of_outputs(old):
    model = nn.Sequential(old.half())
    replace_layer(model, "0", 3)
    assert type(model[0]) is type(old)
    assert model[0].weight.shape == (3, *old.weight.shape[1:])
    assert (model[0].bias is None) == (old.bias is None)
    assert model[0].weight.dtype == torch.half
    if isinstance(old, nn.Conv2d):
        assert model[0].padding == (1, 1)
