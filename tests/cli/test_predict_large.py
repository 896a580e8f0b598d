import sys

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tests.bundle.making import LABELS
from tests.cli.predictions import lines_of
from tests.data.making import noise, put
from tests.memory import most_held
from tests.predict.making import bundle_of

import lumora as library


@pytest.fixture
def bundle(tmp_path):
    return bundle_of("segformer", tmp_path)[0]


def test_predict__by_tiles(lumora, bundle, tmp_path):
    put(tmp_path / "pictures/large.png", noise(200, 150))
    put(tmp_path / "pictures/small.png", noise(50, 60))
    out = tmp_path / "out"
    arguments = ["predict", bundle, tmp_path / "pictures", "--out", out, "--tile", 64, "--overlap", 16]
    assert lumora(*arguments).code == 0
    predictor = library.load(bundle, device="cpu", tile=64, overlap=16)
    large, small = lines_of(out)
    assert "tiles" not in small
    assert large["tiles"] == {"height": 64, "width": 64, "overlap": 16, "count": 4 * 3}
    for line in (large, small):
        with Image.open(out / line["mask"]) as image:
            ids = np.array(image)
            assert image.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]
        assert torch.from_numpy(ids).equal(predictor.predict(line["picture"]).mask)
        assert {c["label"]: c["pixels"] for c in line["classes"]} == {
            LABELS[i]: int((ids == i).sum()) for i in np.unique(ids)
        }
        with Image.open(out / line["overlay"]) as overlay:
            assert overlay.height == line["height"]
            assert overlay.width > line["width"]  # the legend
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert lumora(*arguments, "--resume").code == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before
    assert lumora(*arguments[:-2], "--resume").code == 2  # another overlap


def test_predict__large_tiffs_without_being_asked(lumora, bundle, tmp_path):
    (tmp_path / "pictures").mkdir()
    tifffile.imwrite(tmp_path / "pictures/a.tif", noise(200, 150), tile=(64, 64), compression="zlib")
    put(tmp_path / "pictures/b.png", noise(200, 150))
    put(tmp_path / "pictures/c.png", noise(20, 20))
    ended = lumora("predict", bundle, tmp_path / "pictures", "--out", tmp_path / "out", "--max-pixels", 1000)
    assert ended.code == 1
    assert "1 of 3 pictures cannot be used" in ended.err
    assert "b.png is 150 x 200: 30,000 pixels, and the limit is 1,000" in ended.err
    first, second, third = lines_of(tmp_path / "out")
    assert (first["height"], first["width"], "tiles" in first) == (200, 150, True)
    assert ("error" in second, "tiles" in third) == (True, False)


def test_predict__a_large_picture_that_ends_too_early_stops_nothing(lumora, bundle, tmp_path):
    (tmp_path / "pictures").mkdir()
    tifffile.imwrite(tmp_path / "pictures/a.tif", noise(300, 200))
    (tmp_path / "pictures/a.tif").write_bytes((tmp_path / "pictures/a.tif").read_bytes()[:100_000])
    put(tmp_path / "pictures/b.png", noise(80, 90))
    out = tmp_path / "out"
    ended = lumora("predict", bundle, tmp_path / "pictures", "--out", out, "--tile", "auto")
    assert (ended.code, "a.tif is cut off" in ended.err) == (1, True)
    assert ["error" in line for line in lines_of(out)] == [True, False]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == [
        "masks/b.png",
        "overlays/b.jpg",
        "predictions.json",
        "predictions.jsonl",
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_predict__four_times_the_pixels_take_little_more_memory(bundle, tmp_path):
    """From the TIFF's tiles to the mask's rows and the overlay, nothing holds the picture whole."""
    peaks = {}
    for side in (1500, 3000):  # the overlays are of one size
        picture, out = tmp_path / f"{side}.tif", tmp_path / f"out-{side}"
        tifffile.imwrite(picture, noise(side, side, seed=side), tile=(256, 256), compression="zlib", photometric="rgb")
        options = ("--out", out, "--tile", 256, "--device", "cpu")
        peaks[side] = most_held(sys.executable, "-P", "-m", "lumora", "predict", bundle, picture, *options)
        expected = library.load(bundle, device="cpu", tile=256).predict(picture).mask
        (line,) = lines_of(out)
        with Image.open(out / line["mask"]) as image:
            assert torch.from_numpy(np.array(image)).equal(expected)
        with Image.open(out / line["overlay"]) as overlay:
            assert overlay.height == 1500
    whole = (3000**2 - 1500**2) * 3  # of the pictures alone, at a byte for each colour
    assert peaks[3000] - peaks[1500] < whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tile", "big"], "'big' is neither a number of pixels nor auto"),
        (["--tile", "0"], "'0' is neither"),
        (["--tile", "64", "--overlap", "60"], "tile is 64 and overlap 60"),
    ],
)
def test_predict__tiles_that_cannot_be_are_a_misuse(lumora, bundle, tmp_path, options, words):
    put(tmp_path / "a.png")
    ended = lumora("predict", bundle, tmp_path / "a.png", "--out", tmp_path / "out", *options)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.told
    assert not (tmp_path / "out").exists()
