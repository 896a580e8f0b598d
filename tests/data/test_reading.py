import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import skimage.io
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps
from tests.data.making import encoded, noise

from lumora.data import Limits, read_header, read_picture, reading
from lumora.data.content import InFile
from lumora.data.reading import read_raw_mask, read_small, upright
from lumora.errors import LumoraError, TooLargeError, UnreadableError


def shown_by_pillow(content):
    """An independent way to the upright RGB pixels."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_picture__of_lossless_formats_has_the_pixels_that_were_saved(kind):
    pixels = noise() // 64 * 64  # few enough colours for a palette
    image = Image.fromarray(pixels)
    read = read_picture(encoded(image.quantize(256) if kind == "GIF" else image, kind))
    assert read.dtype == torch.uint8
    assert read.is_contiguous()
    expected = np.array(image.quantize(256).convert("RGB")) if kind == "GIF" else pixels
    assert np.array_equal(read.permute(1, 2, 0), expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 90}), ("JPEG", {"progressive": True, "subsampling": 0}), ("WEBP", {}), ("AVIF", {})],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_picture__of_lossy_formats_is_what_pillow_shows(kind, options, mode):
    content = encoded(Image.fromarray(noise(33, 47)).convert(mode), kind, **options)
    assert torch.equal(read_picture(content), shown_by_pillow(content))


def test_picture__in_lossless_webp_has_the_pixels_that_were_saved():
    pixels = noise(20, 30)
    assert np.array_equal(
        read_picture(encoded(Image.fromarray(pixels), "WEBP", lossless=True)).permute(1, 2, 0), pixels
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture__is_turned_as_its_exif_says(kind, orientation):
    content = encoded(Image.fromarray(noise(20, 31)), kind, exif=with_orientation(orientation))
    read = read_picture(content)
    assert read.shape == ((3, 31, 20) if orientation >= 5 else (3, 20, 31))
    assert torch.equal(read, shown_by_pillow(content))
    header = read_header(content)
    assert (header.height, header.width, header.orientation) == (20, 31, orientation)
    assert header.shown == read.shape[1:]


def test_picture__with_a_damaged_exif_is_read_as_it_lies():
    content = encoded(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert read_picture(content).shape == (3, 12, 16)


def test_picture__grey_has_three_equal_channels():
    grey = noise()[..., 0]
    assert torch.equal(read_picture(encoded(Image.fromarray(grey), "PNG")), torch.from_numpy(grey).expand(3, -1, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_picture__transparent_lies_on_white(mode):
    pixels = noise(channels=4)
    image = Image.fromarray(pixels).convert(mode)
    rgba = np.array(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    read = read_picture(encoded(image, "PNG")).permute(1, 2, 0).numpy()
    assert np.abs(read - expected).max() <= 1


def test_picture__transparent_colour_of_a_palette_lies_on_white():
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert read_picture(encoded(image, "PNG", transparency=1))[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]


def test_picture__with_one_transparent_rgb_colour_lies_on_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert read_picture(encoded(image, "PNG", transparency=(4, 5, 6)))[:, 0].T.tolist() == [[1, 2, 3], [255, 255, 255]]


def test_picture__in_cmyk_is_what_pillow_shows():
    image = Image.fromarray(noise(40, 40)).convert("CMYK")
    for content in (encoded(image, "JPEG", quality=95), encoded(image, "TIFF")):
        read = read_picture(content)
        assert torch.equal(read, shown_by_pillow(content))
        rgb = noise(40, 40).astype(float)
        assert np.abs(read.permute(1, 2, 0).numpy() - rgb).mean() < 12  # and not its negative


def test_picture__black_and_white_is_black_and_white():
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    assert read_picture(encoded(image, "PNG"))[0].tolist() == [[255, 0]]


@pytest.mark.parametrize("write", ["pillow png", "tifffile", "scikit-image"])
def test_picture__of_16_bits_keeps_the_upper_8(write, tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (9, 7), dtype=np.uint16)
    path = tmp_path / ("a.png" if write == "pillow png" else "a.tif")
    if write == "pillow png":
        Image.fromarray(values).save(path)
    elif write == "tifffile":
        tifffile.imwrite(path, values)
    else:
        skimage.io.imsave(path, values, check_contrast=False)
    assert np.array_equal(read_picture(path)[1], values >> 8)


def test_picture__of_16_bit_colours_keeps_the_upper_8():
    values = np.random.default_rng(0).integers(0, 2**16, (9, 7, 3), dtype=np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb")
    assert np.array_equal(read_picture(file.getvalue()).permute(1, 2, 0), values >> 8)


def test_picture__of_fractions_from_0_to_1_is_scaled_and_others_are_refused():
    file = io.BytesIO()
    tifffile.imwrite(file, np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert read_picture(file.getvalue())[0].tolist() == [[0, 128, 255]]
    file = io.BytesIO()
    tifffile.imwrite(file, np.array([[0.0, 7000.0]], dtype=np.float32))
    with pytest.raises(UnreadableError, match=r"values from 0 to 7000.*0 to 1.*8-bit PNG"):
        read_picture(file.getvalue())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_picture__whose_zero_is_white_is_turned(kind):
    shades = np.arange(63).reshape(9, 7) / 62
    whole = 1 if kind is np.float32 else np.iinfo(kind).max
    file = io.BytesIO()
    tifffile.imwrite(file, ((1 - shades) * whole).astype(kind), photometric="miniswhite")
    assert np.abs(read_picture(file.getvalue())[0].numpy() - shades * 255).max() <= 1


def test_picture__of_a_tiff_that_scikit_image_compressed(tmp_path):
    pixels = noise(50, 60)
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="zlib", tile=(16, 16), photometric="rgb")
    assert np.array_equal(read_picture(tmp_path / "a.tif").permute(1, 2, 0), pixels)


def test_picture__of_several_frames_is_the_first():
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (10, 200)]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert read_picture(content).unique().tolist() == [10]


def test_picture__one_pixel_is_a_picture():
    for kind in ("PNG", "JPEG"):
        assert read_picture(encoded(Image.new("RGB", (1, 1), (7, 7, 7)), kind)).flatten().tolist() == [7, 7, 7]


def test_picture__of_a_path_in_any_script(tmp_path):
    path = tmp_path / "猫" / "Øl – ёж 🦔.png"
    path.parent.mkdir()
    path.write_bytes(encoded(Image.fromarray(noise()), "PNG"))
    assert torch.equal(read_picture(str(path)), read_picture(path))


def test_picture__file_is_not_written_to_and_no_warning_is_given():
    content = encoded(Image.fromarray(noise()), "JPEG")
    before = bytes(bytearray(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_picture(content)
    assert content == before


# --- what cannot be read ----------------------------------------------------------------------------------------------


def cut(kind):
    content = encoded(Image.fromarray(noise(200, 300)), kind)
    return content[: len(content) // 2]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated_file__is_refused_with_its_name(kind, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(cut(kind))
    with pytest.raises(UnreadableError, match=r"a\.jpg.*(damaged|cut off)"):
        read_picture(path)


def test_empty_file__is_refused_with_its_name(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    with pytest.raises(UnreadableError, match=r"a\.jpg is empty \(0 bytes\); copy or download it again"):
        read_picture(path)
    with pytest.raises(UnreadableError):
        read_header(path)


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"\0" * 50])
def test_file_that_is_no_picture__is_refused(content):
    with pytest.raises(UnreadableError, match="damaged"):
        read_picture(content)


def test_missing_file__is_refused_as_an_os_error_too(tmp_path):
    with pytest.raises(OSError, match=r"a\.png cannot be opened.*moved or deleted") as caught:
        read_picture(tmp_path / "a.png")
    assert isinstance(caught.value, LumoraError)


def png_that_claims(width, height):
    """A few bytes that say to be a large picture."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "said"),
    [((20_000, 10_000), "200,000,000"), ((65_000, 65_000), "4,225,000,000"), ((10_000, 9_000), "90,000,000")],
    ids=["200 megapixels", "bomb", "between ours and Pillow's limit"],
)
def test_large_picture__is_refused_before_it_is_decoded(size, said, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_that_claims(*size))
    for read in (read_picture, read_header, read_raw_mask, lambda path: read_small(path, 8)):
        # Decoded, these bytes would be found to be cut off.
        with pytest.raises(TooLargeError, match=rf"large\.png.*{said} pixels.*limit is 80,000,000.*Limits\(pixels="):
            read(path)


def test_large_picture__in_a_long_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    path.write_bytes(png_that_claims(20_000, 10_000))
    monkeypatch.setattr(reading, "_LONG", 50)
    monkeypatch.setattr(InFile, "read", lambda self: pytest.fail("all of it was read"))
    for read in (read_picture, read_raw_mask, lambda path: read_small(path, 8)):
        with pytest.raises(TooLargeError, match="limit is 80,000,000"):
            read(path)


@pytest.mark.parametrize("asked", [False, True])
def test_large_picture__is_warned_of_by_pillow_only_where_that_is_asked_for(asked):
    reading._leave_limits_to_us.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()
        if asked:
            warnings.simplefilter("always", Image.DecompressionBombWarning)
        read_header(png_that_claims(10_000, 9_000), limits=Limits(pixels=90_000_000))
    assert any(one.category is Image.DecompressionBombWarning for one in told) == asked


def test_large_picture__is_read_when_the_limit_is_raised():
    content = encoded(Image.new("1", (20_000, 10_000)), "PNG", compress_level=1)
    before = Image.MAX_IMAGE_PIXELS
    header = read_header(content, limits=Limits(pixels=200_000_000))
    assert (header.height, header.width) == (10_000, 20_000)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(TooLargeError, match="limit is 100,000,000"):
        read_header(content, limits=Limits(pixels=100_000_000))


def test_limit__can_be_lowered():
    content = encoded(Image.fromarray(noise(10, 10)), "PNG")
    assert read_picture(content, limits=Limits(pixels=100)).shape == (3, 10, 10)
    with pytest.raises(TooLargeError):
        read_picture(content, limits=Limits(pixels=99))


def test_header__does_not_decode(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(noise(300, 400)), "PNG")[:200])
    assert (read_header(path).height, read_header(path).width, read_header(path).mode) == (300, 400, "RGB")


def test_picture__in_lab_has_its_colour():
    colour = (200, 30, 30)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.new("RGB", (4, 4), colour), srgb, lab, outputMode="LAB")
    read = read_picture(encoded(image, "TIFF"))[:, 0, 0].int()
    assert (read - torch.tensor(colour)).abs().max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright__does_to_a_tensor_what_pillow_does_to_a_picture(orientation):
    grey = noise(5, 7)[..., 0]
    content = encoded(Image.fromarray(grey), "PNG", exif=with_orientation(orientation))
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(upright(torch.from_numpy(grey), orientation), expected)


def test_small__is_close_to_the_shrunk_picture():
    content = encoded(Image.fromarray(noise(300, 400)), "JPEG", quality=95, exif=with_orientation(6))
    expected = Image.fromarray(shown_by_pillow(content).permute(1, 2, 0).numpy()).resize(
        (32, 32), Image.Resampling.BILINEAR
    )
    assert np.abs(read_small(content, 32).astype(int) - np.array(expected)).mean() < 4
