import io
import sys

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tests.data.making import noise

from lumora.data import Limits, read_picture
from lumora.data.rows import can_be_read_in_parts, open_rows, rows_of
from lumora.errors import DataError, TooLargeError, UnreadableError

HEIGHT, WIDTH = 300, 210
STEPS = [(0, 7), (7, 130), (130, 131), (100, 200), (290, 300)]
"""Rows that are asked for; mostly in order."""


def rgb(height=HEIGHT, width=WIDTH):
    return noise(height, width, seed=3)


def by_pillow(compression, pixels=None, **options):
    def write(path):
        options.setdefault("strip_size", 7_000)
        from PIL import TiffImagePlugin

        before, TiffImagePlugin.STRIP_SIZE = TiffImagePlugin.STRIP_SIZE, options.pop("strip_size")
        try:
            image = Image.fromarray(rgb() if pixels is None else pixels)
            image.save(path, compression=compression, **options)
        finally:
            TiffImagePlugin.STRIP_SIZE = before

    return write


def by_tifffile(pixels=None, **options):
    def write(path):
        tifffile.imwrite(path, rgb() if pixels is None else pixels, **options)

    return write


def grey16():
    return noise(HEIGHT, WIDTH, seed=4)[..., 0].astype(np.uint16) * 257


def see_through():
    return np.dstack([rgb(), noise(HEIGHT, WIDTH, seed=5)[..., 0]])


def palette(path):
    from PIL import TiffImagePlugin

    before, TiffImagePlugin.STRIP_SIZE = TiffImagePlugin.STRIP_SIZE, 3_000
    try:
        Image.fromarray(rgb()).quantize(64).save(path, compression="tiff_lzw")
    finally:
        TiffImagePlugin.STRIP_SIZE = before


IN_PARTS = {
    "strips": by_pillow(None),
    "strips, LZW": by_pillow("tiff_lzw"),
    "strips, LZW, with a predictor": by_pillow("tiff_lzw", tiffinfo={317: 2}),
    "strips, deflate": by_pillow("tiff_adobe_deflate"),
    "strips, packbits": by_pillow("packbits"),
    "strips, JPEG": by_pillow("jpeg", quality=90),
    "one strip": by_tifffile(),
    "one strip, Motorola's order": by_tifffile(grey16(), byteorder=">"),
    "long strips": by_tifffile(rowsperstrip=100),
    "tiles": by_tifffile(tile=(64, 48)),
    "tiles, deflate": by_tifffile(tile=(64, 64), compression="zlib"),
    "tiles, deflate, with a predictor": by_tifffile(tile=(64, 64), compression="zlib", predictor=True),
    "tiles, BigTIFF": by_tifffile(tile=(64, 64), bigtiff=True, compression="zlib"),
    "16 bits": by_tifffile(grey16(), rowsperstrip=16),
    "16 bits, tiles, Motorola's order": by_tifffile(grey16(), tile=(32, 32), byteorder=">"),
    "grey": by_tifffile(noise(HEIGHT, WIDTH)[..., 0], tile=(32, 64), compression="zlib"),
    "see-through": by_tifffile(see_through(), tile=(64, 64), extrasamples=["unassalpha"]),
    "palette": palette,
    "black and white": by_pillow("group4", noise(HEIGHT, WIDTH)[..., 0] > 128, strip_size=500),
    "fractions": by_tifffile((rgb()[..., 0] / 255).astype(np.float32), tile=(32, 32)),
}
WHOLE = {
    "planes": by_tifffile(np.ascontiguousarray(rgb().transpose(2, 0, 1)), planarconfig="separate", photometric="rgb"),
    "turned": by_pillow("tiff_lzw", tiffinfo={274: 6}),
    "one compressed strip": by_pillow("tiff_lzw", strip_size=10**9),
    "zero is white, one compressed strip": by_tifffile(
        grey16(), photometric="miniswhite", compression="zlib", rowsperstrip=10**6
    ),
}


@pytest.mark.parametrize("kind", [*IN_PARTS, *WHOLE])
def test_open_rows__gives_the_pixels_of_read_picture(tmp_path, kind):
    path = tmp_path / "a.tif"
    (IN_PARTS | WHOLE)[kind](path)
    expected = read_picture(path)
    assert can_be_read_in_parts(path) == (kind in IN_PARTS)
    with open_rows(path) as picture:
        assert (3, picture.height, picture.width) == expected.shape
        assert (picture.held == 0) == (kind in IN_PARTS)
        for start, stop in [step for step in STEPS if step[1] <= picture.height]:
            rows = picture.rows(start, stop)
            assert rows.dtype == torch.uint8
            assert rows.equal(expected[:, start:stop])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_open_rows__other_formats_are_decoded_once(tmp_path, kind, mode):
    file = io.BytesIO()
    try:
        Image.fromarray(rgb()).convert(mode).save(file, kind)
    except (OSError, KeyError):
        pytest.skip(f"there is no {kind} of {mode}")
    with open_rows(file.getvalue()) as picture:
        assert picture.held >= HEIGHT * WIDTH
        assert picture.rows(20, 90).equal(read_picture(file.getvalue())[:, 20:90])


def test_open_rows__limits_count_for_what_is_decoded_whole_alone(tmp_path):
    IN_PARTS["tiles"](tmp_path / "a.tif")
    WHOLE["planes"](tmp_path / "b.tif")
    few = Limits(HEIGHT * WIDTH - 1)
    with pytest.raises(TooLargeError):
        read_picture(tmp_path / "a.tif", limits=few)
    with open_rows(tmp_path / "a.tif", limits=few) as picture:
        assert picture.rows(0, HEIGHT).shape == (3, HEIGHT, WIDTH)
    with pytest.raises(TooLargeError, match="--max-pixels"), open_rows(tmp_path / "b.tif", limits=few):
        pass


def test_open_rows__a_file_that_is_cut_off_gives_what_it_has(tmp_path):
    path = tmp_path / "a.tif"
    by_tifffile()(path)  # the pixels are last
    path.write_bytes(path.read_bytes()[: HEIGHT * WIDTH * 2])
    with open_rows(path) as picture:
        assert picture.rows(0, 64).shape == (3, 64, WIDTH)
        with pytest.raises(UnreadableError, match=r"a\.tif is cut off"):
            picture.rows(200, HEIGHT)


@pytest.mark.parametrize("seed", range(5))
def test_open_rows__damage_is_told(tmp_path, seed):
    path = tmp_path / "a.tif"
    IN_PARTS["strips, LZW"](path)
    content = bytearray(path.read_bytes())
    numbers = np.random.default_rng(seed)
    for place in numbers.integers(8, len(content), 60):
        content[place] = numbers.integers(256)
    path.write_bytes(bytes(content))
    try:
        with open_rows(path, limits=Limits(10**6)) as picture:
            picture.rows(0, min(picture.height, 1000))
    except DataError as error:
        assert "a.tif" in str(error)


def test_open_rows__is_of_a_picture_at_hand_too():
    pixels = torch.from_numpy(rgb()).permute(2, 0, 1)
    assert rows_of(pixels).rows(3, 9).equal(pixels[:, 3:9])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures the memory as Linux counts it")
def test_open_rows__holds_a_band(tmp_path):
    """Pixels of 300 MB are read with little memory."""
    from tests.processes import in_a_process

    path = tmp_path / "a.tif"
    plain = tifffile.memmap(path, shape=(10_000, 10_000, 3), dtype=np.uint8, photometric="rgb")
    plain[5_000:5_010] = 7
    del plain

    def read():
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open_rows(path) as picture:
            # numpy adds up without a wider copy of the band
            found = sum(int(picture.rows(top, top + 500).numpy().sum()) for top in range(0, 10_000, 500))
        assert found == 10 * 10_000 * 3 * 7
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert int(in_a_process(read)) < 120_000
