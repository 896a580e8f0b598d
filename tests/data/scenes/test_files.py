import numpy as np
import pytest
from PIL import Image

from lumora.data.scenes import CLASSES, KINDS, PALETTE, scene, scenes, write_scenes
from lumora.errors import DataError


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_write_scenes__class_folders(tmp_path):
    counts = write_scenes(tmp_path / "new" / "data", 40, size=24, seed=2, format="png")
    root = tmp_path / "new" / "data"
    assert counts == {"train": 24, "validation": 8, "test": 8}
    assert (root / "classes.txt").read_text().split() == list(KINDS)
    for split, samples in scenes(40, size=24, seed=2).splits.items():
        for sample in samples:
            found = np.asarray(Image.open(root / split / KINDS[sample.target] / f"{sample.key}.png"))
            assert np.array_equal(found, scene(2, int(sample.key), 24).picture)
    assert len(files(root)) == 41


def test_write_scenes__pictures_and_masks(tmp_path):
    write_scenes(tmp_path, 12, size=(24, 32), task="segmentation")
    assert (tmp_path / "classes.txt").read_text().split() == list(CLASSES)
    masks = sorted((tmp_path / "masks").rglob("*.png"))
    assert len(masks) == 12
    for path in masks:
        mask, made = Image.open(path), scene(0, int(path.stem), (24, 32))
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), made.mask)
        assert np.array_equal(np.asarray(mask.convert("RGB")), np.array(PALETTE, np.uint8)[made.mask])
        picture = Image.open(tmp_path / "images" / path.parent.name / f"{path.stem}.jpg")
        assert np.abs(np.asarray(picture, int) - made.picture).mean() < 6  # JPEG loses a little
    assert len(files(tmp_path)) == 25


def test_write_scenes__same_wishes_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_scenes(tmp_path / name, 9, size=16, task="segmentation")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_write_scenes__full_folder_is_left_alone_unless_forced(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        write_scenes(tmp_path, 8, size=16)
    assert files(tmp_path) == ["mine.txt"]
    write_scenes(tmp_path, 8, size=16, force=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert len(files(tmp_path)) == 10


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": 4, "size": 2}, "at least 8"),
        ({"count": 4, "task": "depth"}, "not for 'depth'"),
        ({"count": 4, "format": "bmp"}, "not as 'bmp'"),
    ],
)
def test_write_scenes__bad_wishes_write_nothing(tmp_path, wishes, message):
    with pytest.raises(DataError, match=message):
        write_scenes(tmp_path / "data", **wishes)
    assert not (tmp_path / "data").exists()


def test_write_scenes__file_in_place_of_the_folder(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DataError, match="is a file"):
        write_scenes(tmp_path / "data", 4)


def test_write_scenes__tells_how_far_it_is(tmp_path):
    told = []
    write_scenes(tmp_path, 5, size=16, progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 5) for i in range(1, 6)]
