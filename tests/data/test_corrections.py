import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.processes import in_a_process, reachable_folder
from tests.training.small import NAMES
from tests.training.tiny import save_pictures

from lumora.data import open_source
from lumora.data.corrections import correct_labels, correct_mask, corrections_folder, read_corrections
from lumora.data.doctor import examine
from lumora.errors import DataError, MaskError, OutputError


@pytest.fixture
def data(tmp_path):
    return save_pictures(tmp_path)


def files_in(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def labels_of(source):
    return {s.key: source.labels.names[s.target] for samples in source.splits.values() for s in samples}


def png(ids, folder):
    path = folder / "drawn.png"
    Image.fromarray(np.asarray(ids, dtype=np.uint8)).save(path)
    return path.read_bytes()


def test_correct_labels__a_source_has_them_and_the_data_stay_as_they_are(data):
    before, split = files_in(data / "classes"), open_source(data / "classes").splits
    keys = {name: [s.key for s in samples] for name, samples in split.items()}
    file = correct_labels(data / "classes", "red/0.png", ["blue"], was=["red"])
    assert file == data / "classes.corrections/corrections.jsonl"
    line = json.loads(file.read_text())
    assert (line["sample"], line["labels"], line["was"]) == ("red/0.png", ["blue"], ["red"])
    source = open_source(data / "classes")
    expected = {f"{NAMES[i % 3]}/{i}.png": NAMES[i % 3] for i in range(15)} | {"red/0.png": "blue"}
    assert labels_of(source) == expected
    assert {name: [s.key for s in samples] for name, samples in source.splits.items()} == keys
    assert files_in(data / "classes") == before
    assert str(file) in (source.corrected or "")
    assert source.corrected in source.notes


def test_correct_labels__the_last_one_counts(data):
    for label in ("blue", "green", "red"):
        correct_labels(data / "classes", "red/0.png", [label])
    assert labels_of(open_source(data / "classes"))["red/0.png"] == "red"
    assert len((data / "classes.corrections/corrections.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["a\u2028b.png", "a\x85b.png", "a\udce9.png"])
def test_correct_labels__of_names_that_are_no_plain_text(data, name):
    correct_labels(data / "classes", name, ["red"])
    correct_labels(data / "classes", "red/0.png", ["blue"])
    assert list(read_corrections(data / "classes")) == [name, "red/0.png"]


def test_correct_labels__letters_may_be_composed_or_not(tmp_path):
    for i, label in enumerate(("café", "the")):
        (tmp_path / "data" / label).mkdir(parents=True)
        for j in range(4):
            Image.new("RGB", (8, 8), (99 * i, 50 * j, 0)).save(tmp_path / "data" / label / f"{j}.png")
    correct_labels(tmp_path / "data", "the/0.png", [unicodedata.normalize("NFD", "café")])
    assert labels_of(open_source(tmp_path / "data", near_duplicates_together=False))["the/0.png"] == "café"


def test_correct_labels__of_a_table(tmp_path):
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]},{'train' if i < 2 else 'validation'}" for i in range(4))
    (tmp_path / "table.csv").write_text(f"path,label,split\n{rows}\n")
    correct_labels(tmp_path / "table.csv", "3.png", ["a"])
    assert labels_of(open_source(tmp_path / "table.csv")) == {"0.png": "a", "1.png": "b", "2.png": "a", "3.png": "a"}


def test_correct_mask__a_source_reads_it(data, tmp_path):
    ids = np.zeros((40, 40), dtype=np.uint8)
    ids[10:20], ids[30:] = 2, 255
    before = files_in(data / "masked")
    key = open_source(data / "masked").splits["train"][0].key
    correct_mask(data / "masked", key, png(ids, tmp_path))
    source = open_source(data / "masked")
    [sample] = [s for samples in source.splits.values() for s in samples if s.key == key]
    assert torch.equal(sample.mask(), torch.from_numpy(ids))
    others = [s for samples in source.splits.values() for s in samples if s.key != sample.key]
    assert all(set(s.mask().unique().tolist()) <= {0, 1, 2} for s in others)
    assert files_in(data / "masked") == before


def test_correct_mask__of_a_turned_picture_is_as_drawn(tmp_path):
    """A picture that is shown upside down, of which a mask was drawn as it is shown."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    for i in range(2):
        Image.new("RGB", (6, 4), (50, 99 * i, 0)).save(tmp_path / f"data/images/{i}.jpg", exif=exif)
        Image.fromarray(np.eye(4, 6, dtype=np.uint8)).save(tmp_path / f"data/masks/{i}.png")
    (tmp_path / "data/labels.txt").write_text("a\nb\n")
    key = open_source(tmp_path / "data").splits["train"][0].key
    drawn = np.zeros((4, 6), dtype=np.uint8)
    drawn[0] = 1
    correct_mask(tmp_path / "data", key, png(drawn, tmp_path))
    [sample] = [s for s in open_source(tmp_path / "data").splits["train"] if s.key == key]
    assert torch.equal(sample.mask(), torch.from_numpy(drawn))


def test_correct_mask__of_another_size_is_refused_when_read(data, tmp_path):
    key = open_source(data / "masked").splits["train"][0].key
    correct_mask(data / "masked", key, png(np.zeros((3, 5)), tmp_path))
    [sample] = [s for s in open_source(data / "masked").splits["train"] if s.key == key]
    with pytest.raises(MaskError, match="5 x 3 pixels, but its picture is 40 x 40"):
        sample.mask()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is no JSON"),
        ("[]", "line 1 is no correction"),
        ('{"labels": ["red"]}', "is no correction"),
        ('{"sample": "red/0.png"}', "is no correction"),
        ('{"sample": "red/0.png", "labels": "red"}', "is no correction"),
        ('{"sample": "red/0.png", "mask": "../elsewhere.png"}', "is no correction"),
        ('{"sample": "red/0.png", "mask": "/etc/passwd"}', "is no correction"),
        ('{"sample": "red/0.png", "labels": ["pink"]}', "'pink', which is no label"),
        ('{"sample": "red/0.png", "labels": ["red", "blue"]}', "2 labels, but each picture has one"),
        ('{"sample": "red/0.png", "mask": "masks/0.png"}', "the data have labels"),
    ],
)
def test_open_source__refuses_corrections_that_cannot_be(data, line, said):
    (data / "classes.corrections").mkdir()
    (data / "classes.corrections/corrections.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=said):
        open_source(data / "classes")


def test_open_source__corrections_of_what_is_not_there_change_nothing(data):
    before = labels_of(open_source(data / "classes"))
    correct_labels(data / "classes", "gone.png", ["red"])
    assert labels_of(open_source(data / "classes")) == before


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["red/0.png"], "The labels of 1 sample are taken from {file}, and not from the data"),
        (["red/0.png", "red/3.png"], "The labels of 2 samples are taken from {file}, and not from the data"),
        (
            ["gone.png"],
            "Nothing in the data is corrected by {file}. It has 1 correction of what is not in the data",
        ),
        (["red/0.png", "gone.png"], "The labels of 1 sample are taken from {file}, and not from the data"),
        (["red/0.png", "gone.png"], "own count. It has 1 correction of what is not in the data: 'gone.png'; mend"),
        (
            list("abcd"),
            "It has 4 corrections of what is not in the data: 'a', 'b', 'c', …; mend such",
        ),
    ],
)
def test_open_source__says_how_many_samples_are_corrected_and_which_corrections_are_of_none(data, keys, said):
    for key in keys:
        file = correct_labels(data / "classes", key, ["blue"])
    source = open_source(data / "classes")
    assert said.format(file=file) in source.corrected
    assert ("not in the data" in source.corrected) == any(key not in labels_of(source) for key in keys)


def test_open_source__says_whose_masks_are_corrected(data, tmp_path):
    keys = [sample.key for sample in open_source(data / "masked").splits["train"][:2]]
    for key, said in zip(keys, ("The mask of 1 sample is taken from", "The masks of 2 samples are taken"), strict=True):
        correct_mask(data / "masked", key, png(np.zeros((40, 40)), tmp_path))
        assert said in open_source(data / "masked").corrected


def test_corrections__the_doctor_sees_the_data_themselves(data):
    correct_labels(data / "classes", "red/0.png", ["blue"])
    assert examine(data / "classes").pictures == 15


def test_corrections_folder__is_beside_what_was_named(data, monkeypatch):
    beside = data / "classes.corrections"
    monkeypatch.chdir(data / "classes")
    for way in (data / "classes", f"{data}/classes/", Path(), "../classes", "red/..", data / "classes/red/.."):
        assert corrections_folder(way).resolve() == beside.resolve()
    monkeypatch.chdir(data / "classes/red")
    assert corrections_folder("..").resolve() == beside.resolve()
    assert corrections_folder("user/dataset") is None
    assert corrections_folder([1]) is None
    assert read_corrections("user/dataset") == {}


def test_correct_labels__says_where_it_may_not_write():
    with reachable_folder() as folder:
        (folder / "data").mkdir()
        folder.chmod(0o555)
        said = in_a_process(lambda: correct_labels(folder / "data", "a", ["b"]), without_rights=True)
    assert said.startswith("OutputError: The correction could not be written")
    with pytest.raises(OutputError, match="is no folder or file here"):
        correct_labels("user/dataset", "a", ["b"])


def test_correct_labels__of_many_processes_are_all_there(data):
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: correct_labels(data / "classes", f"{i}.png", ["red"]), range(40)))
    assert sorted(read_corrections(data / "classes")) == sorted(f"{i}.png" for i in range(40))
