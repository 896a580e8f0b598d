import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.making import noise
from torch.nn import functional as F

from lumora.data import Coding, Labels, read_mask
from lumora.predict.overview import Overview
from lumora.predict.png import PngMask
from lumora.predict.tiles.walking import Strip


@pytest.mark.parametrize("classes", [2, 200, 256, 300])
def test_png__is_read_by_pillow(tmp_path, classes):
    labels = Labels(tuple(f"class {i}" for i in range(classes)))
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, classes, (700, 1999), dtype=np.int32))
    with PngMask(tmp_path / "a.png", (700, 1999), labels) as file:
        for rows in ids.split(90):
            file.write(rows)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()
    with Image.open(tmp_path / "a.png") as image:
        assert (image.size, image.mode) == ((1999, 700), "P" if classes <= 256 else "I;16")
        assert np.array_equal(np.array(image), ids.numpy())
        if classes <= 256:
            assert image.getpalette()[: 3 * classes] == [c for colour in labels.palette() for c in colour]
    assert read_mask(tmp_path / "a.png", Coding(labels)).int().equal(ids)


def test_png__that_was_not_written_to_its_end_is_not_whole(tmp_path):
    with pytest.raises(KeyError), PngMask(tmp_path / "a.png", (10, 10), Labels(("a",))) as file:
        file.write(torch.zeros(5, 10))
        raise KeyError
    assert b"IEND" not in (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(("size", "side"), [((100, 60), 50), ((97, 131), 40), ((30, 20), 50)])
def test_overview__is_the_mean_of_squares(size, side):
    pixels = torch.from_numpy(noise(*size)).permute(2, 0, 1)
    classes = torch.arange(size[0] * size[1]).view(size).to(torch.int32)
    overview = Overview(size, side)
    for top in range(0, size[0], 17):
        overview.add(Strip(top, pixels[:, top : top + 17], classes[top : top + 17]))
    small, mask = overview.drawn()
    by = -(-max(size) // side)
    expected = F.avg_pool2d(pixels.double(), by, ceil_mode=True, count_include_pad=False)
    assert small.shape == expected.shape
    assert (small.double() - expected).abs().max() <= 0.5001
    assert mask.shape == small.shape[1:]
    rows, columns = mask // size[1], mask % size[1]
    for found, length in ((rows[:, 0], size[0]), (columns[0], size[1])):
        starts = torch.arange(len(found)) * by
        assert ((found >= starts) & (found < (starts + by).clamp(max=length))).all()
