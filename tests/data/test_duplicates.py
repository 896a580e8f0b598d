import io

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageEnhance, ImageFont
from tests.data.making import encoded, noise, put

from lumora.data.content import InFile, InMemory
from lumora.data.duplicates import Fingerprints, fingerprints, groups, near_duplicates, stored_fingerprints

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "page", "text", "moon", "brick", "grass")


@pytest.fixture(scope="module")
def photographs():
    images = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS]
    for image in images:
        image.thumbnail((200, 200))
    return images


def pairs_of(*contents):
    return near_duplicates(fingerprints([InMemory(content) for content in contents]))


def changed(image):
    """The same picture as another program would have written it."""
    width, height = image.size
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "png": encoded(image, "PNG"),
        "jpeg of quality 30": encoded(image, "JPEG", quality=30),
        "half the size": encoded(image.resize((width // 2, height // 2)), "JPEG"),
        "twice as large, webp": encoded(image.resize((width * 2, height * 2)), "WEBP"),
        "brighter": encoded(ImageEnhance.Brightness(image).enhance(1.08), "PNG"),
        "stored on its side": encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif),
    }


def test_photographs__are_no_duplicates_of_each_other(photographs):
    assert pairs_of(*(encoded(image, "PNG") for image in photographs)) == []


def test_copies__are_found_however_they_were_saved(photographs):
    for image in photographs:
        original = encoded(image, "JPEG", quality=92)
        for how, content in changed(image).items():
            assert pairs_of(original, content) == [(0, 1)], how


def test_other_crop_or_mirror_image__is_another_picture(photographs):
    for image in photographs[:4]:
        width, height = image.size
        crop = image.crop((width // 4, 0, width, height * 3 // 4))
        assert (
            pairs_of(*(encoded(i, "PNG") for i in (image, crop, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))))
            == []
        )


def test_plain_pictures__are_the_same_only_in_the_same_colour():
    plain = [
        Image.new("RGB", (30, 20), colour) for colour in ((200, 10, 10), (200, 10, 10), (190, 10, 10), (10, 10, 200))
    ]
    assert pairs_of(*(encoded(image, "PNG") for image in plain)) == [(0, 1)]


def test_drawings__of_a_few_strokes_are_different_pictures():
    """Most of such pictures is the same paper."""
    font = ImageFont.load_default(20)
    contents = []
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkmnpqrtuy0123456789":
        image = Image.new("L", (32, 32), 255)
        ImageDraw.Draw(image).text((9, 3), letter, font=font)
        contents.append(encoded(image, "PNG"))
    assert pairs_of(*contents) == []


def test_what_cannot_be_read__is_like_nothing():
    good = encoded(Image.fromarray(noise()), "PNG")
    assert pairs_of(b"", good, b"", good, good[:50]) == [(1, 3)]


def test_one_pixel__can_be_compared():
    assert pairs_of(encoded(Image.new("RGB", (1, 1)), "PNG"), encoded(Image.new("RGB", (1, 1)), "JPEG")) == [(0, 1)]


def test_groups__join_what_is_paired_over_others():
    assert groups(6, [(4, 5), (1, 4), (0, 2)]) == [0, 1, 0, 3, 1, 1]


def test_thousands__are_compared_without_a_pair_being_missed():
    generator = np.random.default_rng(0)
    count = 4_000
    brightness = generator.integers(0, 256, (count, 256), dtype=np.uint8)
    brightness[3_777] = brightness[123]
    brightness[3_999] = brightness[2_000]
    grey = brightness.reshape(count, 16, 16)
    bits = np.packbits((grey < np.roll(grey, -1, axis=2)).reshape(count, -1), axis=1).view(np.uint64)
    colours = np.full((count, 48), 100, np.uint8)
    colours[3_999] += 1
    prints = Fingerprints(bits, brightness, colours, np.ones(count, bool))
    assert near_duplicates(prints) == [(123, 3_777), (2_000, 3_999)]


# --- kept for the next time -------------------------------------------------------------------------------------------


class Counting(InFile):
    """A file that counts how often it was read."""

    reads = 0

    def read(self):
        Counting.reads += 1
        return super().read()


def same(one, two):
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("bits", "brightness", "colours", "readable")
    )


def test_store__spares_reading_again_until_a_file_changes(tmp_path):
    paths = [put(tmp_path / f"{i}.png", noise(seed=i)) for i in range(5)]
    contents = [Counting(path) for path in paths]
    store = tmp_path / "store" / "prints.npy"
    Counting.reads = 0
    first = stored_fingerprints(contents, store)
    assert Counting.reads == 5
    assert same(stored_fingerprints(contents, store), first)
    assert Counting.reads == 5
    put(paths[2], noise(30, 30, seed=9))
    again = stored_fingerprints(contents, store)
    assert Counting.reads == 6
    assert same(again, fingerprints(contents))
    assert not same(again, first)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_store__that_is_damaged_is_made_anew(damage, tmp_path):
    contents = [InFile(put(tmp_path / f"{i}.png", noise(seed=i))) for i in range(3)]
    store = tmp_path / "prints.npy"
    first = stored_fingerprints(contents, store)
    if damage is None:
        file = io.BytesIO()
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        damage = file.getvalue()
    store.write_bytes(damage)
    assert same(stored_fingerprints(contents, store), first)
    assert np.load(store, allow_pickle=False).dtype == np.uint8


def test_store__that_cannot_be_written_is_done_without(tmp_path):
    contents = [InFile(put(tmp_path / "a.png"))]
    (tmp_path / "file").touch()
    assert len(stored_fingerprints(contents, tmp_path / "file" / "prints.npy")) == 1
    assert len(stored_fingerprints([], tmp_path / "none.npy")) == 0
