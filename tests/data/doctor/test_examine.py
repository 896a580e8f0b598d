"""One test for every defect, on clean data that the test damages."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image
from tests.data.doctor import made

from lumora.data import Limits, open_source
from lumora.data.doctor import examine, repair
from lumora.errors import DataError, LayoutError


@pytest.fixture
def classes(tmp_path):
    return made.classes(tmp_path / "data")


@pytest.fixture
def masks(tmp_path):
    return made.masks(tmp_path / "data")


def the(report, kind):
    """The only finding of a kind."""
    (found,) = [finding for finding in report.findings if finding.kind == kind]
    return found


def save_rotated(picture, path, orientation=6):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif, quality=95)


# --- clean data


def test_examine__clean_class_folders(classes):
    report = examine(classes)
    assert report.findings == ()
    assert (report.pictures, report.splits, report.task) == (44, {"train": 24, "validation": 20}, "classification")
    assert report.labels == made.CLASSES


def test_examine__clean_masks(masks):
    report = examine(masks)
    assert report.findings == ()
    assert (report.pictures, report.task, report.labels) == (12, "segmentation", ("sky", "sea", "land"))


def test_examine__clean_source_and_progress(classes):
    told = []
    source = open_source(classes)
    assert examine(source, progress=lambda done, total: told.append((done, total))).findings == ()
    assert told[-1] == (44, 44)


def test_examine__colour_masks_with_a_colour_table_are_clean(masks):
    made.with_colours(masks)
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        made.coloured(made.blocks(i)).save(path)
    assert examine(masks).findings == ()


def test_examine__colour_masks_that_happen_to_be_grey_are_read_by_colour(masks):
    """Black is the last class here: as a number it would be the first."""
    (masks / "labels.txt").write_text("sky 200 40 40\nsea 40 40 200\nland 0 0 0\n")
    colours = np.array([(200, 40, 40), (40, 40, 200), (0, 0, 0)], dtype=np.uint8)
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        Image.fromarray(colours[made.blocks(i) if i else np.full((48, 64), 2)]).save(path)
    report = examine(masks)
    assert report.findings == ()
    assert report.examined.meanings[0].ids == {2: 48 * 64}


def test_examine__grey_masks_saved_as_colour_pictures_are_numbers(masks):
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        Image.fromarray(made.blocks(i)).convert("RGB").save(path)
    assert examine(masks).findings == ()


# --- files that cannot be read


def test_empty_file(classes):
    (classes / "train/cat/00.png").write_bytes(b"")
    found = the(examine(classes), "empty-file")
    assert (found.severity, found.files) == ("error", ("train/cat/00.png",))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_unreadable__truncated_file(classes, ending):
    path = classes / f"train/cat/cut.{ending}"
    made.texture(5, (96, 128)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found = the(examine(classes), "unreadable")
    assert (found.severity, found.files) == ("error", (f"train/cat/cut.{ending}",))
    assert "cut off" in found.found


def test_unreadable__something_else_under_a_pictures_name(classes):
    (classes / "train/cat/page.jpg").write_text("<html>404</html>")
    assert the(examine(classes), "unreadable").files == ("train/cat/page.jpg",)


def test_unreadable__mask(masks):
    (masks / "masks/03.png").write_bytes((masks / "masks/03.png").read_bytes()[:60])
    assert the(examine(masks), "unreadable").files == ("masks/03.png",)


def test_too_large__is_not_decoded(classes):
    found = the(examine(classes, limits=Limits(pixels=3000)), "too-large")
    assert len(found.files) == 44


# --- pictures and masks


def test_mask_size(masks):
    Image.fromarray(made.blocks(2, (40, 64))).save(masks / "masks/02.png")
    found = the(examine(masks), "mask-size")
    assert (found.severity, found.files) == ("error", ("masks/02.png",))
    assert "64 x 40 for a picture of 64 x 48" in found.found


def test_mask_missing_and_picture_missing(masks):
    (masks / "masks/04.png").unlink()
    (masks / "images/07.png").unlink()
    report = examine(masks)
    assert the(report, "mask-missing").files == ("images/04.png",)
    assert the(report, "picture-missing").files == ("masks/07.png",)


def test_mask_missing__side_by_side(tmp_path):
    for i in range(12):
        made.texture(i).save(tmp_path / f"{i:02}.png")
        Image.fromarray(made.blocks(i)).save(tmp_path / f"{i:02}_mask.png")
    (tmp_path / "03_mask.png").unlink()
    (tmp_path / "05.png").unlink()
    report = examine(tmp_path)
    assert the(report, "mask-missing").files == ("03.png",)
    assert the(report, "picture-missing").files == ("05_mask.png",)


def test_left_out__pictures_in_no_class(classes):
    made.texture(77).save(classes / "train/loose.png")
    assert the(examine(classes), "left-out").files == ("train/loose.png",)


def test_unknown_ids(masks):
    mask = made.blocks(1)
    mask[:5] = 9
    Image.fromarray(mask).save(masks / "masks/01.png")
    found = the(examine(masks), "unknown-ids")
    assert (found.severity, found.files) == ("error", ("masks/01.png",))
    assert "with 9" in found.found
    assert "ids 0 to 2" in found.found


def test_unknown_ids__ignored_number_is_none(masks):
    mask = made.blocks(1)
    mask[:5] = 9
    Image.fromarray(mask).save(masks / "masks/01.png")
    assert examine(masks, ignore=(255, 9)).findings == ()


def test_unknown_ids__colour_of_no_label(masks):
    made.with_colours(masks)
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        made.coloured(made.blocks(i)).save(path)
    pixels = np.array(made.coloured(made.blocks(0)))
    pixels[:4] = (1, 250, 3)
    Image.fromarray(pixels).save(masks / "masks/00.png")
    found = the(examine(masks), "unknown-ids")
    assert found.files == ("masks/00.png",)
    assert "(1, 250, 3)" in found.found


# --- colours, palettes and smoothed edges


def test_colour_mask__where_ids_are_expected(masks):
    made.coloured(made.blocks(3)).save(masks / "masks/03.png")
    found = the(examine(masks), "colour-mask")
    assert (found.severity, found.files) == ("error", ("masks/03.png",))


def test_colour_mask__among_numbers_with_known_colours(masks):
    made.with_colours(masks)
    made.coloured(made.blocks(3)).save(masks / "masks/03.png")
    found = the(examine(masks), "mixed-masks")
    assert (found.severity, found.files) == ("warning", ("masks/03.png",))


def test_palette__numbers_are_not_the_ids(masks):
    made.with_colours(masks)
    order = (2, 0, 1)  # this file's number of each class
    mask = Image.fromarray(np.array(order, dtype=np.uint8)[made.blocks(5)], "P")
    mask.putpalette([value for number in range(3) for value in made.COLOURS[order.index(number)]])
    mask.save(masks / "masks/05.png")
    found = the(examine(masks), "palette")
    assert (found.severity, found.files) == ("warning", ("masks/05.png",))


def test_palette__differs_from_file_to_file(masks):
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        mask = Image.fromarray(made.blocks(i), "P")
        colours = made.COLOURS if i != 8 else made.COLOURS[::-1]
        mask.putpalette([value for colour in colours for value in colour])
        mask.save(path)
    assert the(examine(masks), "palette").files == ("masks/08.png",)


def test_smoothed_mask__scaled_with_interpolation(masks):
    made.with_colours(masks)
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        made.coloured(made.blocks(i)).save(path)
    small = made.coloured(made.blocks(6, (24, 32)))
    small.resize((64, 48), Image.Resampling.BILINEAR).save(masks / "masks/06.png")
    report = examine(masks)
    found = the(report, "smoothed-mask")
    assert (found.severity, found.files) == ("error", ("masks/06.png",))
    assert "unknown-ids" not in report.kinds


def test_smoothed_mask__where_no_list_names_the_labels(masks):
    (masks / "labels.txt").unlink()
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        Image.fromarray(made.blocks(i, classes=2) * 255).save(path)
    assert examine(masks).findings == ()
    mask = Image.open(masks / "masks/03.png").resize((30, 22))
    mask.resize((64, 48), Image.Resampling.BICUBIC).save(masks / "masks/03.png")
    found = the(examine(masks), "smoothed-mask")
    assert (found.severity, found.files) == ("warning", ("masks/03.png",))
    with pytest.raises(DataError, match="Name the labels"):
        repair(examine(masks), masks.parent / "repaired")
    found = the(examine(masks, labels={0: "nothing", 255: "thing"}), "smoothed-mask")
    assert (found.severity, found.files) == ("error", ("masks/03.png",))


def test_lossy_mask(masks):
    (masks / "masks/06.png").unlink()
    Image.fromarray(made.blocks(6) * 100).save(masks / "masks/06.jpg", quality=60)
    found = the(examine(masks), "lossy-mask")
    assert (found.severity, found.files) == ("error", ("masks/06.jpg",))


# --- backgrounds


def test_background__ids_start_at_one(masks):
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        Image.fromarray(made.blocks(i) + 1).save(path)
    report = examine(masks)
    found = the(report, "background")
    assert found.severity == "error"
    assert "reduce_labels=True" in found.advice
    assert examine(masks, reduce_labels=True).findings == ()


def test_background__ids_start_at_one_without_a_list(masks):
    (masks / "labels.txt").unlink()
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        Image.fromarray(made.blocks(i) + 1).save(path)
    assert the(examine(masks), "background").severity == "warning"


def test_background__255_in_some_masks_and_0_in_others(masks):
    for i in (1, 4):
        mask = made.blocks(i)
        mask[mask == 0] = 255
        Image.fromarray(mask).save(masks / f"masks/{i:02}.png")
    found = the(examine(masks), "background")
    assert (found.severity, found.files) == ("warning", ("masks/01.png", "masks/04.png"))


def test_background__foreground_is_1_or_255(masks):
    (masks / "labels.txt").write_text("nothing\nthing\n")
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        mask = made.blocks(i, classes=2)
        Image.fromarray(mask * 255 if i == 9 else mask).save(path)
    found = the(examine(masks), "background")
    assert (found.severity, found.files) == ("error", ("masks/09.png",))


# --- duplicates


def test_duplicates__across_splits(classes):
    shutil.copy(classes / "train/cat/01.png", classes / "validation/cat/copy.png")
    found = the(examine(classes), "duplicates-across-splits")
    assert (found.severity, set(found.files)) == ("error", {"train/cat/01.png", "validation/cat/copy.png"})


def test_duplicates__within_a_split_in_another_format(classes):
    Image.open(classes / "train/cat/01.png").save(classes / "train/cat/copy.bmp")
    found = the(examine(classes), "duplicates")
    assert (found.severity, set(found.files)) == ("warning", {"train/cat/01.png", "train/cat/copy.bmp"})


def test_near_duplicates__across_splits(classes):
    Image.open(classes / "train/dog/01.png").save(classes / "validation/dog/again.jpg", quality=70)
    report = examine(classes)
    found = the(report, "near-duplicates-across-splits")
    assert (found.severity, set(found.files)) == ("warning", {"train/dog/01.png", "validation/dog/again.jpg"})
    assert not report.failed


def test_near_duplicates__within_a_split(classes):
    Image.open(classes / "train/dog/01.png").resize((128, 96)).save(classes / "train/dog/larger.png")
    assert set(the(examine(classes), "near-duplicates").files) == {"train/dog/01.png", "train/dog/larger.png"}


def test_conflicting_labels(classes):
    shutil.copy(classes / "train/cat/01.png", classes / "train/dog/copy.png")
    found = the(examine(classes), "conflicting-labels")
    assert (found.severity, set(found.files)) == ("error", {"train/cat/01.png", "train/dog/copy.png"})


def test_conflicting_labels__masks(masks):
    shutil.copy(masks / "images/01.png", masks / "images/02.png")
    assert set(the(examine(masks), "conflicting-labels").files) == {"images/01.png", "images/02.png"}


# --- classes


def test_imbalance(tmp_path):
    made.classes(tmp_path, ("cat", "dog"), train=30, validation=10)
    for path in sorted((tmp_path / "train/dog").iterdir())[1:] + sorted((tmp_path / "validation/dog").iterdir())[1:]:
        path.unlink()
    found = the(examine(tmp_path), "imbalance")
    assert found.severity == "warning"
    assert "'cat' is in 40 pictures, 'dog' in 2" in found.found


def test_class_missing_in_split(classes):
    shutil.rmtree(classes / "validation/dog")
    found = the(examine(classes), "class-missing-in-split")
    assert found.severity == "warning"
    assert "No picture of validation shows 'dog'" in found.found


def test_class_missing_in_split__train(classes):
    shutil.rmtree(classes / "train/dog")
    assert the(examine(classes), "class-missing-in-split").severity == "error"


def test_class_missing__of_the_list(masks):
    (masks / "labels.txt").write_text("sky\nsea\nland\nboat\n")
    assert "'boat'" in the(examine(masks), "class-missing").found


@pytest.mark.parametrize("variant", ["Cat", "cats", "cat ", "CAT"])
def test_label_variants(classes, variant):
    table = ["path,label"]
    for path in sorted((classes / "train").glob("*/*.png")):
        name = variant if path.match("cat/03.png") else path.parent.name
        table.append(f"{path.relative_to(classes)},{json.dumps(name)}")
    (classes / "train.csv").write_text("\n".join(table) + "\n")
    if variant == "cat ":
        variant = "cat"  # tables are read without spaces around labels
        assert "label-variants" not in examine(classes / "train.csv").kinds
        return
    found = the(examine(classes / "train.csv"), "label-variants")
    assert (found.severity, found.files) == ("warning", ("train/cat/03.png",))
    assert f"{variant!r} may be the same class as 'cat'" in found.found


def test_label_variants__folders(classes):
    (classes / "validation/cat").rename(classes / "validation/Cats")
    report = examine(classes)
    assert len(the(report, "label-variants").files) == 10
    assert report.kinds == {"label-variants"}


def test_label_variants__composed_and_decomposed_letters(tmp_path):
    made.classes(tmp_path, ("cafe", "dog"))
    composed, decomposed = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    for split in ("train", "validation"):
        (tmp_path / split / "cafe").rename(tmp_path / split / composed)
    (tmp_path / "train" / decomposed).mkdir()
    if len(list((tmp_path / "train").iterdir())) == 2:
        pytest.skip("this file system keeps one name for both")
    for i in range(11, 12):
        (tmp_path / "train" / composed / f"{i}.png").rename(tmp_path / "train" / decomposed / f"{i}.png")
    report = examine(tmp_path)
    found = the(report, "name-twins")
    assert found.severity == "error"
    assert set(found.files) == {f"train/{composed}", f"train/{decomposed}"}
    assert report.pictures == 44


def test_cannot_open__only_one_class(tmp_path):
    made.classes(tmp_path, ("cat",))
    found = the(examine(tmp_path), "cannot-open")
    assert found.severity == "error"
    assert "only one class" in found.found


def test_cannot_open__colour_masks_without_colours(masks):
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        made.coloured(made.blocks(i)).save(path)
    (masks / "images/03.png").write_bytes(b"")
    report = examine(masks)
    assert {"cannot-open", "colour-mask", "empty-file"} <= report.kinds


def test_examine__nothing_there(tmp_path):
    with pytest.raises(LayoutError, match="No pictures"):
        examine(tmp_path)
    with pytest.raises(DataError, match="no file or folder"):
        examine(tmp_path / "missing")


# --- pixels


@pytest.mark.parametrize(
    ("mode", "severity", "words"),
    [
        ("L", "warning", "grey"),
        ("CMYK", "warning", "CMYK"),
        ("I;16", "warning", "of 16 bits"),
        ("RGBA", "note", "transparency"),
    ],
)
def test_mixed_modes(classes, mode, severity, words):
    path = classes / "train/cat/odd.tif"
    picture = made.texture(99)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    else:
        picture = picture.convert(mode)
    picture.save(path)
    found = the(examine(classes), "mixed-modes")
    assert (found.severity, found.files) == (severity, ("train/cat/odd.tif",))
    assert words in found.found


def test_mixed_modes__all_grey_is_clean(classes):
    for path in classes.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert examine(classes).findings == ()


def test_orientation__mask_does_not_follow(masks):
    (masks / "images/02.png").unlink()
    save_rotated(made.texture(1002), masks / "images/02.jpg")
    found = the(examine(masks), "orientation")
    assert (found.severity, found.files) == ("warning", ("masks/02.png",))


def test_orientation__upright_mask_is_clean(masks):
    (masks / "images/02.png").unlink()
    save_rotated(made.texture(1002), masks / "images/02.jpg")
    Image.open(masks / "masks/02.png").transpose(Image.Transpose.ROTATE_270).save(masks / "masks/02.png")
    assert examine(masks).findings == ()


def test_orientation__half_turn_cannot_be_told(masks):
    (masks / "images/02.png").unlink()
    save_rotated(made.texture(1002), masks / "images/02.jpg", orientation=3)
    assert "cannot be told" in the(examine(masks), "orientation").found


def test_tiny_and_large_pictures(classes):
    made.texture(3, (1, 1)).save(classes / "train/cat/one.png")
    made.texture(4, (2060, 2070)).save(classes / "train/dog/big.jpg")
    report = examine(classes)
    assert (the(report, "tiny-pictures").severity, the(report, "tiny-pictures").files) == (
        "warning",
        ("train/cat/one.png",),
    )
    assert (the(report, "large-pictures").severity, the(report, "large-pictures").files) == (
        "note",
        ("train/dog/big.jpg",),
    )


def test_empty_pictures(classes):
    Image.new("RGB", (64, 48), (3, 4, 5)).save(classes / "train/cat/black.png")
    Image.new("RGB", (64, 48), (3, 4, 5)).save(classes / "validation/dog/black.png")
    report = examine(classes)
    assert set(the(report, "empty-pictures").files) == {"train/cat/black.png", "validation/dog/black.png"}
    assert report.kinds == {"empty-pictures"}


def test_empty_masks(masks):
    Image.fromarray(np.full((48, 64), 255, dtype=np.uint8)).save(masks / "masks/02.png")
    assert the(examine(masks), "empty-masks").files == ("masks/02.png",)


# --- the report


def test_report__worst_first_and_as_json(classes):
    (classes / "train/cat/00.png").write_bytes(b"")
    Image.open(classes / "train/dog/01.png").resize((128, 96)).save(classes / "train/dog/larger.png")
    shutil.copy(classes / "train/cat/01.png", classes / "train/cat/copy.png")
    report = examine(classes)
    assert [finding.severity for finding in report.findings] == ["error", "warning", "note"]
    assert report.failed
    value = json.loads(json.dumps(report.as_dict()))
    assert value["counts"] == {"error": 1, "warning": 1, "note": 1}
    assert value["findings"][0]["files"] == ["train/cat/00.png"]
    assert "error: empty-file" in str(report)


def test_examine__same_findings_with_any_number_of_threads(classes):
    shutil.copy(classes / "train/cat/01.png", classes / "validation/cat/copy.png")
    assert examine(classes, threads=1) == examine(classes, threads=5)
