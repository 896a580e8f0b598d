"""Masks by tiles against masks that are computed as a whole, in plain arithmetic."""

import sys

import numpy as np
import pytest
import torch
from tests.data.making import noise
from tests.processes import in_a_process
from torch import nn
from torch.nn import functional as F

from lumora.data.rows import rows_of
from lumora.predict.tiles.grid import grid
from lumora.predict.tiles.walking import strips


class Near(nn.Module):
    """A network that sees no farther than eight pixels, and gives logits of a quarter of the size.

    It computes with whole numbers, so that no sum is rounded, in whatever order it is added up.
    """

    def __init__(self, classes=4):
        super().__init__()
        torch.manual_seed(2)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 3, stride=2, padding=1)
        )
        for parameter in self.parameters():
            parameter.data.mul_(16).round_()

    def forward(self, pixels):
        return self.layers(pixels.float()) / 2**11


class Far(Near):
    """One whose answer depends on all that it sees, as an attention's does: its tiles disagree."""

    def forward(self, pixels):
        logits = super().forward(pixels)
        return logits + 3 * torch.sin(40 * logits.mean((2, 3), keepdim=True))


def picture(height, width, seed=0):
    fine = np.random.default_rng(seed).integers(0, 60, (height, width, 3), dtype=np.uint8)
    return torch.from_numpy(noise(height, width, seed) // 2 + fine).permute(2, 0, 1)


@torch.no_grad()
def by_tiles(model, pixels, made, batch_size=3):
    def ask(tiles):
        assert all(tile.shape[1:] == made.tile for tile in tiles)
        return model(torch.stack(list(tiles))).unbind()

    found = list(strips(rows_of(pixels), made, ask, batch_size))
    assert [strip.top for strip in found] == [0, *np.cumsum([len(strip.classes) for strip in found])[:-1]]
    assert torch.cat([strip.pixels for strip in found], dim=1).equal(pixels)
    return torch.cat([strip.classes for strip in found])


@torch.no_grad()
def at_once(model, pixels):
    """The classes of a picture that is seen as a whole, and how sure they are."""
    logits = F.interpolate(model(pixels[None]), pixels.shape[1:], mode="bilinear")[0]
    two = logits.topk(2, 0).values
    return logits.argmax(0), two[0] - two[1]


def inside(made):
    """Pixels that one tile decides, and that are far from the border of any tile."""
    masks = []
    for axis in (made.rows, made.columns):
        alone = torch.zeros(axis.length, dtype=torch.bool)
        for span in axis.spans():
            alone[span.start : span.stop] = len(span.tiles) == 1
        masks.append(alone)
    return masks[0][:, None] & masks[1]


@pytest.mark.parametrize("size", [(64, 64), (200, 332), (332, 96), (128, 4000)])
def test_tiles__give_what_the_whole_picture_gives_where_the_network_sees_that_far(size):
    model, pixels = Near(), picture(*size)
    made = grid(size, (64, 64))
    expected, sure = at_once(model, pixels)
    found = by_tiles(model, pixels, made)
    assert found[inside(made)].equal(expected[inside(made)].to(found.dtype))  # bit for bit
    assert (found == expected)[sure > 1e-5].all()  # in the seams but for rounding


@torch.no_grad()
def test_tiles__logits_are_the_very_same_within():
    model, pixels = Near(), picture(200, 332)
    whole = model(pixels[None])[0]
    for top, left in grid((200, 332), (64, 64)):
        tile = model(pixels[None, :, top : top + 64, left : left + 64])[0]
        assert tile[:, 4:-4, 4:-4].equal(whole[:, top // 4 + 4 : top // 4 + 12, left // 4 + 4 : left // 4 + 12])


def test_tiles__of_any_size_are_nearly_the_same():
    model, pixels = Near(), torch.from_numpy(noise(211, 333)).permute(2, 0, 1)
    expected, _ = at_once(model, pixels)
    found = by_tiles(model, pixels, grid((211, 333), (64, 64)))
    assert (found == expected).double().mean() > 0.95


@torch.no_grad()
def in_plain_arithmetic(model, pixels, made):
    """The probabilities of every tile at full size, weighted, added up."""
    total = torch.zeros(4, *pixels.shape[1:], dtype=torch.float64)
    weights = torch.zeros(pixels.shape[1:], dtype=torch.float64)
    for top, left in made:
        place = slice(top, top + made.tile[0]), slice(left, left + made.tile[1])
        logits = F.interpolate(model(pixels[None][..., place[0], place[1]]).double(), made.tile, mode="bilinear")[0]
        share = one_axis(made.rows, top)[:, None] * one_axis(made.columns, left)
        total[:, place[0], place[1]] += logits.softmax(0) * share
        weights[place] += share
    torch.testing.assert_close(weights, torch.ones_like(weights))
    two = total.topk(2, 0).values
    return total.argmax(0), two[0] - two[1]


def one_axis(axis, start):
    """How much each pixel of a tile counts along one axis."""
    starts, width = axis.starts, axis.overlap - 2 * (axis.overlap // 4)
    ends = axis.tile - axis.overlap // 4 - width  # where a tile begins to fade out
    place = np.arange(start, start + axis.tile) + 0.5
    share = np.ones(axis.tile)
    if start > 0:
        share *= np.clip((place - starts[starts.index(start) - 1] - ends) / max(width, 1e-9), 0, 1)
    if start < starts[-1]:
        share *= 1 - np.clip((place - start - ends) / max(width, 1e-9), 0, 1)
    return torch.from_numpy(share)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [((200, 333), 64, 20), ((70, 70), 64, 32), ((64, 300), 64, 0), ((211, 100), 50, 7), ((90, 300), 96, 40)],
)
def test_tiles__that_disagree_are_blended_by_their_probabilities(size, tile, overlap):
    model, pixels = Far(), picture(*size)
    made = grid(size, (64, 64), tile, overlap)
    expected, sure = in_plain_arithmetic(model, pixels, made)
    found = by_tiles(model, pixels, made)
    assert (found == expected)[sure > 1e-5].all()
    assert (sure > 1e-5).double().mean() > 0.99


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_tiles__of_any_batch_are_the_same(batch_size):
    model, pixels = Far(), picture(150, 250)
    made = grid((150, 250), (64, 64))
    assert by_tiles(model, pixels, made, batch_size).equal(by_tiles(model, pixels, made, 3))


def test_tiles__of_more_than_256_classes():
    model, pixels = Near(classes=300), picture(100, 100)
    expected, sure = at_once(model, pixels)
    found = by_tiles(model, pixels, grid((100, 100), (64, 64)))
    assert found.max() > 255
    assert (found == expected)[sure > 1e-5].all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures the memory as Linux counts it")
def test_tiles__of_a_higher_picture_need_no_more_memory():
    class Made:
        """A picture that is nowhere."""

        width, held = 800, 0

        def __init__(self, height):
            self.height = height

        def rows(self, start, stop):
            return torch.zeros(3, stop - start, self.width, dtype=torch.uint8)

    def memory(height):
        import resource

        torch.set_num_threads(1)
        model, made = Near(20), grid((height, 800), (128, 128))
        with torch.no_grad():
            for _ in strips(Made(height), made, lambda tiles: model(torch.stack(list(tiles))).unbind(), 4):
                pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    low, high = (int(in_a_process(lambda height=height: memory(height))) for height in (600, 20_000))
    assert high - low < 20_000  # kB
