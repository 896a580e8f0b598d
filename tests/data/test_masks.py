import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tests.data.making import encoded, noise
from tests.data.test_reading import with_orientation

from lumora.data import IGNORE, Coding, Labels, read_mask, read_picture
from lumora.data.masks import NOWHERE
from lumora.errors import MaskError

THREE = Labels(("sky", "sea", "land"))
IDS = np.array([[0, 1, 2], [2, 255, 0]], dtype=np.uint8)


def grey(ids=IDS):
    return Image.fromarray(ids)


def with_palette(ids=IDS, colours=((0, 0, 0), (128, 0, 0), (0, 128, 0))):
    image = Image.fromarray(ids)
    # All 256 colours: where there are fewer, Pillow takes fewer bits for each pixel.
    image.putpalette([c for colour in (*colours, *[(i, 9, 9) for i in range(len(colours), 256)]) for c in colour])
    return image


def in_tiff(ids, dtype):
    file = io.BytesIO()
    tifffile.imwrite(file, ids.astype(dtype))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        encoded(grey(), "PNG"),
        encoded(with_palette(), "PNG"),
        encoded(Image.fromarray(IDS.astype(np.uint16)), "PNG"),
        encoded(grey(), "TIFF"),
        encoded(grey(), "BMP"),
        encoded(Image.merge("RGB", [grey()] * 3), "PNG"),
        encoded(Image.merge("LA", [grey(), Image.new("L", (3, 2), 255)]), "PNG"),
        in_tiff(IDS, np.uint16),
        in_tiff(IDS, np.int32),
        in_tiff(IDS, np.float32),
    ],
    ids="grey palette 16-bit tiff bmp grey-as-rgb grey-with-alpha tiff-16 tiff-32 tiff-float".split(),
)
def test_mask__has_the_ids_that_were_saved(content):
    mask = read_mask(content, Coding(THREE))
    assert mask.dtype == torch.uint8
    assert mask.tolist() == IDS.tolist()


def test_mask__black_and_white_is_0_and_1():
    image = Image.fromarray(np.array([[True, False]]))
    assert read_mask(encoded(image, "PNG"), Coding(Labels(("no", "yes")))).tolist() == [[1, 0]]


def test_mask__in_colours_is_read_by_the_table():
    colours = {(10, 20, 30): 2, (0, 0, 0): 0, (255, 255, 255): NOWHERE}
    pixels = np.array([[[10, 20, 30], [0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    for mode in ("RGB", "RGBA"):
        content = encoded(Image.fromarray(pixels).convert(mode), "PNG")
        assert read_mask(content, Coding(THREE, colours=colours)).tolist() == [[2, 0, IGNORE]]


def test_mask__with_a_palette_numbered_anew_is_read_by_its_colours():
    table = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2}
    ids = np.array([[0, 1, 2]], dtype=np.uint8)
    shuffled = with_palette(np.array([[2, 0, 1]], dtype=np.uint8), ((128, 0, 0), (0, 128, 0), (0, 0, 0)))
    for image in (with_palette(ids), shuffled):
        assert read_mask(encoded(image, "PNG"), Coding(THREE, colours=table)).tolist() == ids.tolist()


def test_mask__quantised_by_pillow_is_read_by_its_colours():
    table = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2}
    colours = np.array(list(table), dtype=np.uint8)
    ids = np.random.default_rng(0).integers(0, 3, (20, 30))
    quantised = Image.fromarray(colours[ids]).quantize(3)
    assert np.array_equal(read_mask(encoded(quantised, "PNG"), Coding(THREE, colours=table)), ids)


def test_mask__in_gif_is_read_by_its_colours():
    """GIFs are written with the palette in any order."""
    table = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 128, 0): 2, (255, 9, 9): NOWHERE}
    assert read_mask(encoded(with_palette(), "GIF"), Coding(THREE, colours=table)).tolist() == IDS.tolist()


def test_mask__with_numbers_of_its_own_is_translated():
    coding = Coding(THREE, values={7: 0, 11: 1, 26: 2})
    assert read_mask(encoded(grey(np.array([[7, 26, 255]], np.uint8)), "PNG"), coding).tolist() == [[0, 2, IGNORE]]


def test_mask__reduced_has_0_nowhere_and_the_others_one_less():
    coding = Coding(THREE, reduce=True)
    content = encoded(grey(np.array([[0, 1, 3, 255]], np.uint8)), "PNG")
    assert read_mask(content, coding).tolist() == [[IGNORE, 0, 2, IGNORE]]


def test_mask__other_numbers_may_count_nowhere():
    content = encoded(grey(np.array([[0, 9, 254]], np.uint8)), "PNG")
    assert read_mask(content, Coding(THREE, ignore=(9, 254))).tolist() == [[0, IGNORE, IGNORE]]


@pytest.mark.parametrize("count", [255, 256, 400])
def test_mask__of_many_classes_keeps_all_ids_and_nowhere_apart(count):
    labels = Labels(tuple(map(str, range(count))))
    ids = np.arange(count, dtype=np.uint16)[None]
    coding = Coding(labels, ignore=(1000,))
    mask = read_mask(encoded(Image.fromarray(np.append(ids, [[1000]], axis=1).astype(np.uint16)), "PNG"), coding)
    assert mask.dtype == (torch.uint8 if count <= 255 else torch.int32)
    assert mask[0, :-1].tolist() == list(range(count))
    assert mask[0, -1] == labels.ignore
    assert labels.ignore not in range(count)


# --- together with the picture ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_mask__is_turned_with_its_picture(kind, orientation):
    """The mask has no EXIF. The picture shows its own mask, so that both must stay together."""
    ids = np.random.default_rng(0).integers(0, 2, (6, 9), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    shown = Image.fromarray(ids * 255).convert("RGB")
    picture = encoded(shown, kind, exif=with_orientation(orientation), **({"quality": 100} if kind == "JPEG" else {}))
    mask = read_mask(encoded(grey(ids), "PNG"), Coding(THREE), picture=picture)
    assert torch.equal(mask, (read_picture(picture)[0] > 127).to(torch.uint8))


def test_mask__drawn_on_the_upright_picture_stays_as_it_is():
    picture = encoded(Image.fromarray(noise(20, 30)), "JPEG", exif=with_orientation(6))
    ids = np.random.default_rng(0).integers(0, 3, (30, 20), dtype=np.uint8)
    assert np.array_equal(read_mask(encoded(grey(ids), "PNG"), Coding(THREE), picture=picture), ids)


def test_mask__with_an_orientation_of_its_own_follows_that():
    picture = encoded(Image.fromarray(noise(20, 30)), "JPEG", exif=with_orientation(6))
    ids = np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8)
    mask = encoded(grey(ids), "PNG", exif=with_orientation(6))
    assert np.array_equal(read_mask(mask, Coding(THREE), picture=picture), np.rot90(ids, -1))


def test_mask__of_another_size_than_its_picture_is_refused(tmp_path):
    (tmp_path / "1.jpg").write_bytes(encoded(Image.fromarray(noise(20, 30)), "JPEG"))
    (tmp_path / "1.png").write_bytes(encoded(grey(np.zeros((20, 29), np.uint8)), "PNG"))
    with pytest.raises(MaskError, match=r"1\.png is 29 x 20 pixels, but its picture .*1\.jpg is 30 x 20.*scale"):
        read_mask(tmp_path / "1.png", Coding(THREE), picture=tmp_path / "1.jpg")


# --- what does not fit the labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([[0, 7, 7, 9]], r"has 7, 9 in 3 of 4 pixels, but its 3 labels have ids 0 to 2.*full list of labels.*ignore="),
        ([[1, 2, 3]], r"has 3 in 1 of 3 pixels.*start at 1.*reduce_labels=True"),
    ],
)
def test_id_outside_the_labels__is_refused_with_what_to_do(ids, said, tmp_path):
    path = tmp_path / "m.png"
    path.write_bytes(encoded(grey(np.array(ids, np.uint8)), "PNG"))
    with pytest.raises(MaskError, match=rf"m\.png {said}"):
        read_mask(path, Coding(THREE))


def test_negative_ids__are_refused():
    with pytest.raises(MaskError, match="has -1 in"):
        read_mask(in_tiff(np.array([[-1, 0]]), np.int32), Coding(THREE))


def test_fractions__are_refused():
    with pytest.raises(MaskError, match=r"holds fractions \(0 to 0\.5\)"):
        read_mask(in_tiff(np.array([[0, 0.5]]), np.float32), Coding(THREE))


def test_colour_without_a_label__is_refused():
    pixels = np.array([[[1, 2, 3], [0, 0, 0]]], dtype=np.uint8)
    with pytest.raises(MaskError, match=r"colours that belong to no label: \(1, 2, 3\).*smoothed"):
        read_mask(encoded(Image.fromarray(pixels), "PNG"), Coding(THREE, colours={(0, 0, 0): 0}))
    with pytest.raises(MaskError, match=r"its colours mean is not known.*labels='classes\.csv'"):
        read_mask(encoded(Image.fromarray(pixels), "PNG"), Coding(THREE))
