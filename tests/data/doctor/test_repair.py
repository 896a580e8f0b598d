"""Copies of damaged data are clean, and the originals are as they were."""

import hashlib
import shutil
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.doctor import made
from tests.data.doctor.test_examine import save_rotated

from lumora.data import open_source
from lumora.data.doctor import examine, repair
from lumora.errors import DataError, OutputError, UnreadableError


def contents(folder):
    """Every file's content and time of change."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def whats(made_copy, kind):
    return {change.file: change.what for change in made_copy.changes if change.kind == kind}


def serious(report):
    return report.of("error") + report.of("warning")


@pytest.fixture
def classes(tmp_path):
    return made.classes(tmp_path / "data")


@pytest.fixture
def masks(tmp_path):
    return made.masks(tmp_path / "data")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "repaired"


def damage_classes(root):
    """Every defect of class folders that a copy can be without."""
    (root / "train/cat/00.png").write_bytes(b"")
    path = root / "train/dog/00.png"
    path.write_bytes(path.read_bytes()[:500])
    made.texture(501).convert("L").save(root / "train/cat/grey.png")
    made.texture(502).convert("CMYK").save(root / "train/dog/print.jpg")
    save_rotated(made.texture(503), root / "train/dog/turned.jpg")
    shutil.copy(root / "train/cat/01.png", root / "validation/cat/copy.png")
    Image.open(root / "train/dog/01.png").save(root / "validation/dog/again.jpg", quality=75)
    (root / "validation/cat").rename(root / "validation/Cats")


def test_repair__damaged_classes_become_clean(classes, out):
    damage_classes(classes)
    before = contents(classes)
    report = examine(classes)
    assert report.failed
    copy = repair(report, out)
    assert contents(classes) == before
    assert copy.after.findings == examine(out).findings
    assert serious(copy.after) == ()
    assert copy.after.labels == ("cat", "dog")


def test_repair__says_what_it_changed(classes, out):
    damage_classes(classes)
    copy = repair(examine(classes), out)
    left_out = whats(copy, "left-out")
    assert set(left_out) == {"train/cat/00.png", "train/dog/00.png", "validation/Cats/copy.png"}
    assert left_out["validation/Cats/copy.png"] == "it is the same picture as train/cat/01.png"
    assert whats(copy, "moved") == {"validation/dog/again.jpg": "from validation to train, where its near duplicate is"}
    assert set(whats(copy, "converted")) == {"train/cat/grey.png", "train/dog/print.jpg"}
    assert set(whats(copy, "turned")) == {"train/dog/turned.jpg"}
    assert set(whats(copy, "renamed").values()) == {"'Cats' to 'cat'"}
    assert copy.after.splits == {"train": 26, "validation": 20}


def test_repair__pictures_have_the_same_pixels_and_untouched_files_the_same_bytes(classes, out):
    damage_classes(classes)
    repair(examine(classes), out)
    assert (out / "train/cat/05.png").read_bytes() == (classes / "train/cat/05.png").read_bytes()
    assert (out / "validation/cat/05.png").read_bytes() == (classes / "validation/Cats/05.png").read_bytes()
    by_name = {sample.key: sample for sample in open_source(out).splits["train"]}
    for before in open_source(classes).splits["train"]:
        name = {"train/dog/turned.jpg": "train/dog/turned.png", "train/dog/print.jpg": "train/dog/print.png"}
        after = by_name.get(name.get(before.key, before.key))
        assert (after is None) == (before.key in ("train/cat/00.png", "train/dog/00.png"))
        if after is not None:
            torch.testing.assert_close(after.picture(), before.picture(), rtol=0, atol=0)


def test_repair__clean_data_are_copied_as_they_are(classes, out):
    copy = repair(examine(classes), out)
    assert copy.changes == ()
    assert {k: v[0] for k, v in contents(out).items()} == {k: v[0] for k, v in contents(classes).items()}


def damage_masks(root):
    """Every defect of masks that a copy can be without."""
    made.with_colours(root)
    for i in range(6):  # half in colours
        made.coloured(made.blocks(i)).save(root / f"masks/{i:02}.png")
    mask = made.blocks(7)
    mask[:3] = 9
    Image.fromarray(mask).save(root / "masks/07.png")
    (root / "images/08.png").unlink()
    save_rotated(made.texture(1008), root / "images/08.jpg")
    order = (2, 0, 1)
    palette = Image.fromarray(np.array(order, dtype=np.uint8)[made.blocks(9)], "P")
    palette.putpalette([value for number in range(3) for value in made.COLOURS[order.index(number)]])
    palette.save(root / "masks/09.png")
    Image.fromarray(made.blocks(10, (20, 30))).save(root / "masks/10.png")
    (root / "masks/11.png").write_bytes(b"not a mask")


def test_repair__damaged_masks_become_clean_and_mean_the_same(masks, out):
    damage_masks(masks)
    before = contents(masks)
    copy = repair(examine(masks), out)
    assert contents(masks) == before
    assert serious(copy.after) == ()
    assert set(whats(copy, "left-out")) == {"images/10.png", "images/11.png"}
    assert len(whats(copy, "mask-rewritten")) == 6 + 3
    found = open_source(out, validation=0)
    assert (found.labels.names, found.labels.colours) == (("sky", "sea", "land"), made.COLOURS)
    expected = {sample.key.partition(".")[0]: sample for sample in open_source(masks, validation=0).splits["train"]}
    for sample in found.splits["train"]:
        was = expected[sample.key.partition(".")[0]]
        torch.testing.assert_close(sample.picture(), was.picture(), rtol=0, atol=0)
        if sample.key == "images/07.png":
            wanted = torch.from_numpy(made.blocks(7))
            wanted[:3] = 255
            assert torch.equal(sample.mask(), wanted)
        else:
            assert torch.equal(sample.mask(), was.mask())


def test_repair__mask_with_too_much_unknown_is_left_out(masks, out):
    mask = made.blocks(1)
    mask[:30] = 9
    Image.fromarray(mask).save(masks / "masks/01.png")
    copy = repair(examine(masks), out)
    assert "belong to no label" in whats(copy, "left-out")["images/01.png"]


def test_repair__counting_from_one(masks, out):
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        Image.fromarray(made.blocks(i) + 1).save(path)
    copy = repair(examine(masks, reduce_labels=True), out)
    assert copy.after.findings == ()
    assert np.array_equal(np.array(Image.open(out / "masks/03.png")), made.blocks(3))


def test_repair__keeps_splits_of_masks(masks, out):
    for folder in ("images", "masks"):
        for split, numbers in (("train", range(8)), ("val", range(8, 12))):
            (masks / folder / split).mkdir()
            for i in numbers:
                (masks / folder / f"{i:02}.png").rename(masks / folder / split / f"{i:02}.png")
    shutil.copy(masks / "images/train/01.png", masks / "images/val/09.png")
    shutil.copy(masks / "masks/train/01.png", masks / "masks/val/09.png")
    copy = repair(examine(masks), out)
    assert copy.after.splits == {"train": 8, "validation": 3}
    assert copy.after.kinds <= {"few-pictures"}


def test_repair__several_labels_go_into_a_table(classes, out):
    rows = ["path,label"]
    rows += [
        f"{path.relative_to(classes)},{'cat|Dog' if path.stem == '03' else path.parent.name}"
        for path in sorted((classes / "train").glob("*/*.png"))
    ]
    (classes / "all.csv").write_text("\n".join(rows) + "\n")
    report = examine(classes / "all.csv")
    assert report.task == "multilabel"
    copy = repair(report, out)
    assert copy.after.labels == ("cat", "dog")
    assert copy.after.pictures == 24
    samples = open_source(out, validation=0).splits["train"]
    assert sorted(sample.target for sample in samples)[10:14] == [(0,), (0, 1), (0, 1), (1,)]


def test_repair__same_picture_with_two_labels_is_left_to_people(classes, out):
    shutil.copy(classes / "train/cat/01.png", classes / "train/dog/copy.png")
    copy = repair(examine(classes), out)
    assert copy.changes == ()
    assert "conflicting-labels" in copy.after.kinds


def test_repair__folders_of_the_same_name_come_together(tmp_path, out):
    root = made.classes(tmp_path / "data", ("cafe", "dog"))
    composed, decomposed = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    for split in ("train", "validation"):
        (root / split / "cafe").rename(root / split / composed)
    (root / "train" / decomposed).mkdir()
    for i in (10, 11):
        made.texture(900 + i).save(root / "train" / decomposed / f"{i}.png")
    if len(list((root / "train").iterdir())) == 2:
        pytest.skip("this file system keeps one name for both")
    copy = repair(examine(root), out)
    assert copy.after.findings == ()
    assert (copy.after.pictures, copy.after.labels) == (46, (composed, "dog"))


def test_repair__refuses_a_place_that_is_taken_or_within_the_data(classes, out):
    report = examine(classes)
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    before = contents(classes)
    for place, words in (
        (out, "not empty"),
        (out / "mine.txt", "a file or a link"),
        (classes, "not empty"),
        (classes / "new", "within the data"),
        (classes / "train/../deep/new", "within the data"),
    ):
        with pytest.raises(OutputError, match=words):
            repair(report, place)
    link = out.with_name("link")
    link.symlink_to(classes)
    with pytest.raises(OutputError, match="within the data"):
        repair(report, link / "new")
    assert contents(classes) == before
    assert (out / "mine.txt").read_text() == "keep"


def test_repair__may_use_an_empty_folder(classes, out):
    out.mkdir()
    assert repair(examine(classes), out).after.pictures == 44


def test_repair__nothing_is_left_behind_when_it_fails(classes, out):
    report = examine(classes)
    (classes / "train/cat/03.png").unlink()
    with pytest.raises(UnreadableError, match="Was it moved"):
        repair(report, out)
    assert [path.name for path in out.parent.iterdir()] == ["data"]


def test_repair__masks_of_unknown_meaning(masks, out):
    (masks / "labels.txt").unlink()
    for i, path in enumerate(sorted((masks / "masks").iterdir())):
        picture = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(path)
    with pytest.raises(DataError, match="cannot be repaired"):
        repair(examine(masks), out)
    assert not out.exists()
