import numpy as np
import pytest
from PIL import Image
from tests.data.making import all_keys, keys, noise, put, put_mask

from lumora.data import IGNORE, open_source
from lumora.errors import DataError, LayoutError, MaskError


def ids(seed=0, classes=3):
    return np.random.default_rng(seed).integers(0, classes, (12, 16), dtype=np.uint8)


def pairs(pictures, masks, count=6, ending="", **options):
    for i in range(count):
        put(pictures / f"{i}.jpg", noise(seed=i))
        put_mask(masks / f"{i}{ending}.png", ids(i), **options)


def masks_of(source):
    return {sample.key.rpartition("/")[2][0]: sample.mask() for split in source.splits.values() for sample in split}


def assert_same_masks(source, count=6):
    found = masks_of(source)
    assert len(found) == count
    for i in range(count):
        assert np.array_equal(found[str(i)], ids(i))


@pytest.mark.parametrize(
    ("pictures", "masks", "ending"),
    [
        ("images", "masks", ""),
        ("Images", "Labels", ""),
        ("img", "ann", "_mask"),
        ("photos", "ground_truth", "_gt"),
        ("original_images", "label_images_semantic", ""),
        ("x", "y", ""),
        ("JPEGImages", "SegmentationClass", ""),
        ("images", "segmentation-masks", "_L"),
    ],
)
def test_two_folders__are_pictures_and_masks(pictures, masks, ending, tmp_path):
    pairs(tmp_path / pictures, tmp_path / masks, ending=ending)
    source = open_source(tmp_path, layout="images-masks")
    assert source.task == "segmentation"
    assert source.labels.names == ("class 0", "class 1", "class 2")
    assert any("ids 0 to 2 were seen in 6 of 6 masks" in note and "labels=" in note for note in source.notes)
    assert_same_masks(source)
    assert open_source(tmp_path, labels=["a", "b", "c"]).task == "segmentation"


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("{}/images", "{}/masks"),
        ("images/{}", "masks/{}"),
        ("{}", "{}_labels"),
        ("{}", "{}annot"),
        ("{}", "{}"),
    ],
)
def test_splits__may_be_above_below_or_beside(pictures, masks, tmp_path):
    for split in ("train", "val"):
        pairs(tmp_path / pictures.format(split), tmp_path / masks.format(split), ending="_mask" * (pictures == masks))
    source = open_source(tmp_path)
    assert list(source.splits) == ["train", "validation"]
    assert [len(samples) for samples in source.splits.values()] == [6, 6]
    assert_same_masks(source)


def test_side_by_side__in_one_folder(tmp_path):
    for i in range(4):
        put(tmp_path / f"{i}_sat.jpg", noise(seed=i))
        put_mask(tmp_path / f"{i}_mask.png", ids(i))
    source = open_source(tmp_path)
    assert source.layout == "pictures and masks side by side"
    assert_same_masks(source, 4)


def test_folders_below__are_matched_by_their_path(tmp_path):
    for town in ("a", "b"):
        for i in range(3):
            put(tmp_path / "images" / town / f"{i}.jpg", noise(seed=i))
            put_mask(tmp_path / "masks" / town / f"{i}.png", np.full((12, 16), i + 3 * (town == "b")))
    source = open_source(tmp_path, validation=0)
    assert {key: int(s.mask()[0, 0]) for key, s in zip(keys(source, "train"), source.splits["train"], strict=True)} == {
        f"images/{town}/{i}.jpg": i + 3 * (town == "b") for town in "ab" for i in range(3)
    }


def test_names_in_any_letters__are_matched(tmp_path):
    put(tmp_path / "images" / "caf\u00e9 猫.jpg")
    put_mask(tmp_path / "masks" / "cafe\u0301 猫.png", ids())
    assert all_keys(open_source(tmp_path)) == ["images/caf\u00e9 猫.jpg"]


def test_pictures_without_mask_and_masks_without_picture__are_left_out_with_a_note(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    put(tmp_path / "images" / "alone.jpg")
    put_mask(tmp_path / "masks" / "spare.png", ids())
    source = open_source(tmp_path)
    assert len(all_keys(source)) == 6
    assert "1 pictures have no mask and are left out: 'images/alone.jpg'." in source.notes
    assert "1 masks have no picture and are left out: 'masks/spare.png'." in source.notes


def test_no_picture_with_a_mask__is_an_error(tmp_path):
    put(tmp_path / "images" / "a.jpg")
    put_mask(tmp_path / "masks" / "b.png", ids())
    with pytest.raises(LayoutError, match=r"No picture in .* has a mask.*1_mask\.png.*'images/a\.jpg'.*'masks/b\.png'"):
        open_source(tmp_path)


# --- what the values mean ---------------------------------------------------------------------------------------------


def test_list_of_labels_beside_the_folders__names_the_ids(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "labels.txt").write_text("sky\nsea\nland\n")
    assert open_source(tmp_path).labels.names == ("sky", "sea", "land")
    assert open_source(tmp_path, labels=["a", "b", "c"]).labels.names == ("a", "b", "c")


def test_list_with_colours__reads_masks_in_colours(tmp_path):
    """As CamVid: a table of names and colours, masks in RGB."""
    colours = np.array([(128, 128, 128), (64, 0, 128), (0, 0, 0)], dtype=np.uint8)
    for i in range(6):
        put(tmp_path / "train" / f"{i}.png", noise(seed=i))
        put(tmp_path / "train_labels" / f"{i}_L.png", colours[ids(i)])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nSky,128,128,128\nCar,64,0,128\nVoid,0,0,0\n")
    source = open_source(tmp_path)
    assert source.labels.names == ("Sky", "Car", "Void")
    assert source.labels.palette() == ((128, 128, 128), (64, 0, 128), (0, 0, 0))
    assert_same_masks(source)


def test_masks_in_colours_without_a_list__are_named_by_their_colours(tmp_path):
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], dtype=np.uint8)
    for i in range(6):
        put(tmp_path / "images" / f"{i}.png", noise(seed=i))
        put(tmp_path / "masks" / f"{i}.png", colours[ids(i)])
    source = open_source(tmp_path)
    assert source.labels.names == ("#000000", "#0000ff", "#ff0000")
    assert any("called by the 3 colours" in note and "classes.csv" in note for note in source.notes)
    with pytest.raises(DataError, match=r"colour pictures.*does not say what each colour means"):
        open_source(tmp_path, labels=["a", "b", "c"])


def test_photographs_instead_of_masks__are_an_error(tmp_path):
    for i in range(3):
        put(tmp_path / "images" / f"{i}.png", noise(seed=i))
        put(tmp_path / "masks" / f"{i}.jpg", noise(40, 40, seed=i))
    with pytest.raises(DataError, match=r"more than 256 colours.*Save them as PNG"):
        open_source(tmp_path)


def test_black_and_white_masks__are_background_and_foreground(tmp_path):
    for i in range(4):
        put(tmp_path / "images" / f"{i}.png", noise(seed=i))
        put_mask(tmp_path / "masks" / f"{i}.png", ids(i, 2) * 255)
    source = open_source(tmp_path)
    assert source.labels.names == ("background", "foreground")
    assert np.array_equal(masks_of(source)["1"], ids(1, 2))
    assert any("0 and 255" in note for note in source.notes)
    named = open_source(tmp_path, labels=["road", "crack"])
    assert np.array_equal(masks_of(named)["1"], ids(1, 2))
    ignored = open_source(tmp_path, labels=["a", "b", "c"])
    assert np.array_equal(masks_of(ignored)["1"], ids(1, 2) * np.uint8(IGNORE))


def test_numbers_with_gaps__are_called_by_their_numbers(tmp_path):
    numbers = np.array([0, 100, 200], dtype=np.uint8)
    for i in range(4):
        put(tmp_path / "images" / f"{i}.png", noise(seed=i))
        put_mask(tmp_path / "masks" / f"{i}.png", numbers[ids(i)])
    source = open_source(tmp_path)
    assert source.labels.names == ("value 0", "value 100", "value 200")
    assert_same_masks(source, 4)
    named = open_source(tmp_path, labels={0: "sky", 100: "sea", 200: "land"})
    assert named.labels.names == ("sky", "sea", "land")
    assert_same_masks(named, 4)


def test_palette_of_the_masks__is_taken_for_drawing(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks", palette=[(9, 9, 9), (1, 2, 3), (200, 0, 0), (4, 4, 4)])
    source = open_source(tmp_path)
    assert source.labels.palette() == ((9, 9, 9), (1, 2, 3), (200, 0, 0))
    assert open_source(tmp_path, labels=["a", "b", "c"]).labels.palette() == source.labels.palette()
    assert_same_masks(source)


def test_palettes_that_differ__are_noted(tmp_path):
    for i in range(4):
        put(tmp_path / "images" / f"{i}.png", noise(seed=i))
        put_mask(tmp_path / "masks" / f"{i}.png", ids(i), palette=[(i, 9, 9), (1, i, 3), (200, 0, i), (7, 7, 7)])
    assert any("palettes differ" in note for note in open_source(tmp_path, labels=["a", "b", "c"]).notes)


def test_16_bit_masks__keep_their_ids(tmp_path):
    many = np.random.default_rng(0).integers(0, 600, (12, 16)).astype(np.uint16)
    put(tmp_path / "images" / "0.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(many).save(tmp_path / "masks" / "0.png")
    source = open_source(tmp_path, labels=[f"{i}" for i in range(600)], ignore=65535, validation=0)
    assert np.array_equal(source.splits["train"][0].mask(), many)


def test_reduced_labels__and_other_ignored_numbers(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    source = open_source(tmp_path, labels=["a", "b"], reduce_labels=True)
    expected = np.where(ids(1) == 0, IGNORE, ids(1) - 1)
    assert np.array_equal(masks_of(source)["1"], expected)
    source = open_source(tmp_path, labels=["a", "b"], ignore=[2, 255])
    assert np.array_equal(masks_of(source)["1"], np.where(ids(1) == 2, IGNORE, ids(1)))


def test_id_outside_the_list__is_an_error_when_it_is_read_and_not_before(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    source = open_source(tmp_path, labels=["a", "b"], validation=0)
    with pytest.raises(MaskError, match=r"masks.0\.png has 2 in .* of 192 pixels, but its 2 labels"):
        source.splits["train"][0].mask()


def test_damaged_mask__does_not_keep_the_others_from_being_listed(tmp_path):
    pairs(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "masks" / "0.png").write_bytes(b"")
    assert len(all_keys(open_source(tmp_path))) == 6
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="None of the masks can be read"):
        open_source(tmp_path)
