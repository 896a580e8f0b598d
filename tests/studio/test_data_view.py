import base64
import io
import shutil

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from tests.training.small import NAMES

from lumora.data import Labels
from lumora.errors import DataError
from lumora.studio.data_view import ALL, ON_A_PAGE, open_data, page_of, place_of, visit
from lumora.studio.html import render
from lumora.studio.mask_cases import NO_LABEL
from lumora.studio.tabs.data import _Samples


def test_open_data__says_what_there_is(pictures):
    opened = open_data(f" {pictures / 'classes'} ")
    assert opened.path == str(pictures / "classes")
    assert sum(count for _, count in opened.summary.splits) == 15
    assert {row.name: sum(row.counts) for row in opened.summary.classes} == dict.fromkeys(NAMES, 5)


def test_place_of__is_where_the_home_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pictures").mkdir()
    assert place_of(" ~/pictures ") == str(tmp_path / "pictures")
    assert place_of("user/dataset") == "user/dataset"
    assert place_of(" ") == ""


@pytest.mark.parametrize(("path", "said"), [("", "Name a folder"), ("/nowhere/at/all", "There is no file or folder")])
def test_open_data__refuses_what_is_not_there(path, said):
    with pytest.raises(DataError, match=said):
        open_data(path)


def test_page_of__shows_a_class_alone(pictures):
    opened = open_data(str(pictures / "classes"))
    page = page_of(opened, "train", "green", 0, 0.5)
    on_disk = {f"green/{path.name}" for path in (pictures / "classes/green").iterdir()}
    assert page.shown
    assert {one.key for one in page.shown} <= on_disk
    assert {one.text for one in page.shown} == {"green"}


def test_classes__whose_names_are_no_text_can_be_sent_and_chosen(workshop, pictures, tmp_path):
    data = tmp_path / "odd"
    shutil.copytree(pictures / "classes", data)
    try:
        (data / "green").rename(data / "gr\udce9n")
    except OSError:
        pytest.skip("names of files are text here")
    with gr.Blocks(analytics_enabled=False):
        samples = _Samples(workshop)
    label = samples.first(open_data(str(data)), 0.5)[samples.outputs.index(samples._label)]
    values = {shown: value for shown, value in label.choices if (shown + value).encode()}
    problem, page, _ = samples._turning(by=None)(str(data), "train", values["gr?n"], 0.5, 0)
    assert not problem
    assert "gr?n/" in page
    assert "red/" not in page


def test_page_of__goes_no_further_than_there_are_pages(tmp_path):
    for i in range(2 * ON_A_PAGE):
        folder = tmp_path / "data/train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(folder / f"{i}.png")
    opened = open_data(str(tmp_path / "data"))
    split = next(iter(opened.source.splits))
    count = len(opened.source.splits[split])
    pages = -(-count // ON_A_PAGE)
    last = page_of(opened, split, ALL, 99, 0.5)
    assert (last.number, last.pages) == (pages - 1, pages)
    assert page_of(opened, split, ALL, -5, 0.5).number == 0
    seen = [one.key for n in range(pages) for one in page_of(opened, split, ALL, n, 0.5).shown]
    assert seen == [sample.key for sample in opened.source.splits[split]]


def test_page_of__a_mask_lies_over_its_picture(pictures):
    opened = open_data(str(pictures / "masked"))
    bare, covered = (page_of(opened, "train", ALL, 0, opacity).shown[0] for opacity in (0.0, 1.0))
    assert bare.picture.address != covered.picture.address
    with Image.open(pictures / "masked/masks" / covered.key.split("/")[-1]) as mask:
        ids = set(np.unique(np.asarray(mask)))
    names = ("rest", *NAMES[:2])
    assert set(covered.text.split(", ")) == {names[i] for i in ids}


def test_page_of__a_damaged_picture_is_told(pictures, tmp_path):
    shutil.copytree(pictures / "classes", tmp_path / "data")
    opened = open_data(str(tmp_path / "data"))
    sample = opened.source.splits["train"][0]
    sample.path.write_bytes(b"")
    shown = next(one for one in page_of(opened, "train", ALL, 0, 0.5).shown if one.key == sample.key)
    assert shown.picture is None
    assert str(sample.path) in shown.text


def test_visit__shows_pictures_to_what_was_found(pictures, tmp_path):
    shutil.copytree(pictures / "classes", tmp_path / "data")
    Image.new("RGB", (64, 48)).save(tmp_path / "data/red/black.png")
    (tmp_path / "data/red/empty.png").write_bytes(b"")
    found = {case.finding.kind: case for case in visit(str(tmp_path / "data")).cases}
    shown = {name for case in found.values() for name, _ in case.pictures}
    assert "red/black.png" in shown
    assert "red/empty.png" not in shown
    unreadable = [case for case in found.values() if "red/empty.png" in case.finding.files]
    assert [case.more for case in unreadable] == [1]


def pixels_of(shown):
    """The picture that a thumbnail is."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.address.partition(",")[2]))).convert("RGB"))


def test_visit__shows_masks_over_their_pictures_or_beside_them(pictures, tmp_path):
    shutil.copytree(pictures / "masked", tmp_path / "data")
    masks = tmp_path / "data/masks"
    unknown = np.asarray(Image.open(masks / "0.png")).copy()
    unknown[:20] = 9
    Image.fromarray(unknown).save(masks / "0.png")
    Image.fromarray(np.ones((40, 60), dtype=np.uint8)).save(masks / "1.png")
    cases = {case.finding.kind: case for case in visit(str(tmp_path / "data")).cases}

    [(name, shown)] = cases["unknown-ids"].pictures
    assert (name, cases["unknown-ids"].masked) == ("masks/0.png", True)
    drawn, bare = pixels_of(shown).astype(int), np.asarray(Image.open(tmp_path / "data/images/0.png")).astype(int)
    assert (shown.width, shown.height) == (40, 40)
    expected = 0.1 * bare[:16] + 0.9 * np.array(NO_LABEL)
    assert abs(drawn[:16] - expected).mean() < 12  # a thumbnail is a JPEG
    assert "Pink belongs to no label" in render("findings", visit=visit(str(tmp_path / "data")))

    [sizes] = [case for case in cases.values() if "masks/1.png" in case.finding.files and case.pictures]
    beside = dict(sizes.pictures)["masks/1.png"]
    assert (beside.width, beside.height) == (40 + 2 + 60, 40)
    whole = pixels_of(beside).astype(int)
    colour = Labels(("rest", *NAMES[:2])).palette()[1]
    assert abs(whole[4:36, 46:98] - np.array(colour)).mean() < 12
    picture = np.asarray(Image.open(tmp_path / "data/images/1.png")).astype(int)
    assert abs(whole[4:36, 4:36] - picture[4:36, 4:36]).mean() < 20


def test_visit__shows_the_picture_alone_where_its_mask_is_not_meant(pictures, tmp_path):
    shutil.copytree(pictures / "masked", tmp_path / "data")
    shutil.copy(tmp_path / "data/images/0.png", tmp_path / "data/images/twin.png")
    shutil.copy(tmp_path / "data/masks/0.png", tmp_path / "data/masks/twin.png")
    cases = {case.finding.kind: case for case in visit(str(tmp_path / "data")).cases}
    assert not cases["duplicates"].masked
