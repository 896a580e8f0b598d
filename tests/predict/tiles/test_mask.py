import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tests.data.making import noise, put
from tests.predict.making import bundle_of

import lumora
from lumora.data import Limits, reading
from lumora.data.content import InFile
from lumora.errors import InputError, TooLargeError
from lumora.predict.tiles.mask import LargeMask


@pytest.fixture
def bundle(tmp_path):
    return bundle_of("segformer", tmp_path)[0]


def by_hand(plain, array, tile=64, step=32):
    """What the model says of tiles that are given to it as pictures, where a tile decides alone."""
    height, width = array.shape[:2]
    for top in [*range(0, height - tile, step), height - tile]:
        for left in [*range(0, width - tile, step), width - tile]:
            yield (top, left), plain.predict(array[top : top + tile, left : left + tile]).mask


def test_predict__pictures_that_fit_a_tile_are_seen_as_a_whole(bundle):
    plain, tiled = lumora.load(bundle, device="cpu"), lumora.load(bundle, device="cpu", tile=64)
    for height, width in ((64, 64), (30, 50)):
        array = noise(height, width)
        assert tiled.predict(array).mask.equal(plain.predict(array).mask)


def test_predict__larger_ones_by_tiles(bundle):
    plain, tiled = lumora.load(bundle, device="cpu"), lumora.load(bundle, device="cpu", tile=64, overlap=16)
    array = noise(160, 112)  # tiles begin at 0, 48, 96 and 0, 48
    mask = tiled.predict(array).mask
    assert (mask.shape, mask.dtype) == ((160, 112), torch.uint8)
    for (top, left), of_tile in by_hand(plain, array, 64, 48):
        inside = slice(12, 52)  # what this tile decides alone, at least
        assert mask[top : top + 64, left : left + 64][inside, inside].equal(of_tile[inside, inside])


def test_stream__pictures_of_all_sizes_in_order(bundle, tmp_path):
    tiled = lumora.load(bundle, device="cpu", tile="auto")
    arrays = [noise(40, 60), noise(100, 70, seed=1), noise(64, 64, seed=2), noise(70, 300, seed=3)]
    put(tmp_path / "a.png", arrays[1])
    given = [arrays[0], tmp_path / "a.png", Image.fromarray(arrays[2]), arrays[3]]
    masks = [prediction.mask for _, prediction in tiled.stream(given, batch_size=3)]
    assert [tuple(mask.shape) for mask in masks] == [array.shape[:2] for array in arrays]
    for array, mask in zip(arrays, masks, strict=True):
        assert tiled.predict(array).mask.equal(mask)
    kinds = [type(result) for _, result in tiled.lazily(given)]
    assert [kind is LargeMask for kind in kinds] == [False, True, False, True]


def test_predict__tiffs_beyond_the_limits_are_read_in_parts(bundle, tmp_path):
    array = noise(150, 200)
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(64, 64))
    put(tmp_path / "a.png", array)
    few = lumora.load(bundle, device="cpu", limits=Limits(20_000))
    expected = lumora.load(bundle, device="cpu", tile="auto").predict(array).mask
    assert few.predict(tmp_path / "a.tif").mask.equal(expected)
    with pytest.raises(TooLargeError, match="--max-pixels"):
        few.predict(tmp_path / "a.png")


def test_predict__long_tiffs_are_never_read_whole(bundle, tmp_path, monkeypatch):
    array = noise(150, 200)
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(64, 64))
    few = lumora.load(bundle, device="cpu", limits=Limits(20_000))
    expected = few.predict(tmp_path / "a.tif").mask
    monkeypatch.setattr(reading, "_LONG", 50)
    monkeypatch.setattr(InFile, "read", lambda self: pytest.fail("all of it was read"))
    assert few.predict(tmp_path / "a.tif").mask.equal(expected)


def test_predict__a_tiff_that_is_cut_off_is_told_as_others_are(bundle, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(300, 200))
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:100_000])
    tiled = lumora.load(bundle, device="cpu", tile=64)
    with pytest.raises(lumora.LumoraError, match="cut off"):
        tiled.predict(tmp_path / "a.tif")
    with pytest.warns(lumora.errors.LumoraWarning, match="cut off"):
        assert tiled.predict([tmp_path / "a.tif", noise(40, 40)], skip_bad=True)[0] is None


def test_load__tiles_are_for_masks(tmp_path):
    bundle = bundle_of("vit", tmp_path)[0]
    with pytest.raises(InputError, match="for classification, which sees each picture as a whole"):
        lumora.load(bundle, device="cpu", tile="auto")


def test_load__refuses_tiles_that_cannot_be(bundle):
    with pytest.raises(InputError, match="tile is 64 and overlap 40"):
        lumora.load(bundle, device="cpu", tile=64, overlap=40)


def test_strips__are_of_the_picture_itself(bundle):
    array = noise(100, 130)
    ((_, large),) = lumora.load(bundle, device="cpu", tile=64).lazily(array)
    found = list(large.strips())
    assert np.array_equal(torch.cat([s.pixels for s in found], 1).permute(1, 2, 0).numpy(), array)
    assert torch.cat([s.classes for s in found]).equal(large.whole().mask.to(torch.int32))
