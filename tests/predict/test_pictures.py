import io

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.making import encoded, noise, put

from lumora.data import Labels, Source, StoredSample
from lumora.data.content import InMemory
from lumora.errors import DataError
from lumora.predict.pictures import is_one, pictures

ARRAY = noise(5, 7)


def read(given):
    (one,) = pictures(given)
    return one.picture()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_pillow__becomes_rgb_as_its_file_does(mode, tmp_path):
    image = Image.fromarray(ARRAY)
    if mode == "I;16":
        image = Image.fromarray(ARRAY[..., 0].astype(np.uint16) * 256)
    elif mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(ARRAY[..., 1]))
        image = image.convert(mode)
    else:
        image = image.convert(mode)
    path = tmp_path / ("one.tif" if mode in ("CMYK", "YCbCr") else "one.png")
    # Pillow 12 cannot read the YCbCr that it writes uncompressed; compressed, libtiff makes it RGB and rounds again.
    image.save(path, **({"compression": "tiff_lzw"} if mode == "YCbCr" else {}))
    from_file = read(path)
    assert (read(image).int() - from_file.int()).abs().max() <= (mode == "YCbCr")
    assert from_file.shape == (3, 5, 7)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow__is_turned_as_its_file_is(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(tmp_path / "one.png", ARRAY, exif=exif)
    assert read(Image.open(path)).equal(read(path))
    assert read(Image.open(path)).shape == ((3, 7, 5) if orientation >= 5 else (3, 5, 7))


def test_arrays__grey_and_transparent_ones_become_rgb():
    grey = ARRAY[..., 0]
    wanted = torch.from_numpy(grey).expand(3, -1, -1)
    assert read(grey).equal(wanted)
    assert read(grey[..., None]).equal(wanted)
    assert read(torch.from_numpy(grey)[None]).equal(wanted)
    clear = np.dstack([ARRAY, np.where(grey > 128, 255, 0).astype(np.uint8)])
    white = np.where(grey[..., None] > 128, ARRAY, 255).transpose(2, 0, 1)
    assert read(clear).equal(torch.from_numpy(white))
    assert read(torch.from_numpy(clear).permute(2, 0, 1)).equal(torch.from_numpy(white))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ARRAY / 255, r"numpy array of float64.* If it holds 0 to 1: \(x \* 255\).round\(\).astype\('uint8'\)"),
        (ARRAY.astype(int), r"numpy array of int64; a picture is uint8, from 0 to 255\.$"),
        (ARRAY.transpose(2, 0, 1), r"\(3, 5, 7\); a picture is \(H, W, 3\).*give array.transpose\(1, 2, 0\)"),
        (ARRAY[None], r"given as a list: list\(array\)"),
        (ARRAY[:0], r"\(0, 7, 3\)"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (torch.zeros(3, 5, 7), r"tensor of float32.*\(x \* 255\).round\(\).to\(torch.uint8\)"),
        (torch.from_numpy(ARRAY), r"tensor \(5, 7, 3\); a picture is \(3, H, W\).*give tensor.permute\(2, 0, 1\)"),
        (torch.zeros(2, 3, 5, 7, dtype=torch.uint8), r"given as a list: list\(tensor\)"),
        (torch.zeros(5, 7, dtype=torch.uint8), r"tensor \(5, 7\)"),
        ([17], r"picture 0 is an int, which is no picture. Give a path"),
        ([None], "picture 0 is a NoneType"),
        ([[ARRAY]], "picture 0 is a list"),
        ("missing/one.png", r"There is no file or folder missing/one.png. There is not even missing"),
        ("https://example.org/one.png", "Addresses are not fetched; download it first"),
        (b"no picture", "picture 0 is not a picture in a format that can be read"),
        (Image.new("F", (2, 2), 7.0), "picture 0 has values from 7 to 7"),
        (17, "an int is no picture. Give a path"),
        (None, "a NoneType is no picture"),
        ({"image": ARRAY}, "a dict is no picture"),
    ],
)
def test_pictures__what_is_none_is_told(given, words):
    with pytest.raises(DataError, match=words):
        read(given)


def test_pictures__a_closed_image_is_told():
    image = Image.open(io.BytesIO(encoded(Image.fromarray(ARRAY), "PNG")))
    image.close()
    with pytest.raises(DataError, match="picture 0 cannot be decoded"):
        read(image)


def test_pictures__samples_are_pictures():
    sample = StoredSample("a/b.png", InMemory(encoded(Image.fromarray(ARRAY), "PNG")), target=1)
    assert is_one(sample)
    (one,) = pictures([sample])
    assert one is sample
    source = Source("classification", Labels(("cat", "dog")), {"train": [sample]}, "made")
    with pytest.raises(DataError, match=r"give one of them: source.splits\['train'\]"):
        read(source)


def test_pictures__know_where_in_the_folder_they_lie(tmp_path):
    put(tmp_path / "some/deep/a.png")
    put(tmp_path / "b.png")
    found = list(pictures([tmp_path / "some", tmp_path / "b.png"]))
    assert [one.inside for one in found] == ["deep/a.png", "b.png"]


def test_pictures__a_file_that_is_called_as_a_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "~nobody-is-called-so.png", ARRAY)
    assert is_one("~nobody-is-called-so.png")
    assert read("~nobody-is-called-so.png").equal(read(tmp_path / "~nobody-is-called-so.png"))
    with pytest.raises(DataError, match=r"There is no file or folder ~nobody-is-called-so/b\.png"):
        read("~nobody-is-called-so/b.png")


def test_pictures__an_empty_folder_is_told(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"There are no pictures in .*: it has 1 .txt"):
        list(pictures(tmp_path))
