import csv
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.making import all_keys, noise, put, put_mask

from lumora.data import open_source
from lumora.errors import DataError, LayoutError, UnreadableError

ROWS = [("a.png", "cat"), ("sub/b.png", "dog"), ("c.png", "cat"), ("d.png", "dog")]


@pytest.fixture
def pictures(tmp_path):
    for i, (name, _) in enumerate(ROWS):
        put(tmp_path / name, noise(seed=i))
    return tmp_path


def write(path, columns):
    """As another program writes it."""
    frame = pd.DataFrame(columns)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    return path


def targets(source):
    return {sample.key: sample.target for split in source.splits.values() for sample in split}


NAMES = [name for name, _ in ROWS]
LABELS = [label for _, label in ROWS]


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("heading", [("file_name", "label"), ("path", "class"), ("Image", "Species"), ("foto", "Art")])
def test_table__of_paths_and_labels(kind, heading, pictures):
    path = write(pictures / f"data{kind}", dict(zip(heading, (NAMES, LABELS), strict=True)))
    for data in (path, pictures):
        source = open_source(data)
        assert source.task == "classification"
        assert source.labels.names == ("cat", "dog")
        assert targets(source) == {name: ["cat", "dog"].index(label) for name, label in ROWS}
    assert source.layout == f"table data{kind}"
    assert f"data{kind}: pictures from {heading[0]!r}, labels from {heading[1]!r}; for others" in " ".join(source.notes)


def test_table__with_semicolons_and_a_byte_order_mark(pictures):
    (pictures / "t.csv").write_bytes('\ufeffpath;label\na.png;chat\nc.png;"é;è"\n'.encode())
    assert open_source(pictures / "t.csv", task="classification").labels.names == ("chat", "é;è")


def test_table__columns_can_be_named(pictures):
    write(pictures / "t.csv", {"path": NAMES, "label": LABELS, "thing": ["x", "y", "x", "x"], "other": NAMES[::-1]})
    source = open_source(pictures, columns={"picture": "other", "label": "thing"})
    assert targets(source) == {"d.png": 0, "c.png": 1, "sub/b.png": 0, "a.png": 0}
    with pytest.raises(LayoutError, match="has no column 'labl'; did you mean 'label'"):
        open_source(pictures / "t.csv", columns={"label": "labl"})
    with pytest.raises(LayoutError, match="names 'image'; it may name 'picture', 'label', 'mask' and 'split'"):
        open_source(pictures, columns={"image": "path"})


def test_table_in_a_folder__whose_columns_have_to_be_named(pictures):
    write(pictures / "other.csv", {"path": NAMES, "label": ["x", "y"] * 2})
    write(pictures / "t.csv", {"p": NAMES, "weight": [1.5, 2.5, 1.5, 2.5], "grams": [3, 4, 5, 6]})
    source = open_source(pictures, columns={"picture": "p", "label": "weight"})
    assert source.labels.names == ("1.5", "2.5")
    assert source.layout == "table t.csv"
    with pytest.raises(LayoutError, match=r"the columns that are asked for \('height'\); give the table itself"):
        open_source(pictures, columns={"label": "height"})


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        (".jsonl", [["sun", "sea"], ["sea"], [], ["sun"]], [(0, 1), (0,), (), (1,)]),
        (".parquet", [["sun", "sea"], ["sea"], [], ["sun"]], [(0, 1), (0,), (), (1,)]),
        (".csv", ["sun|sea", "sea", "", "sun"], [(0, 1), (0,), (), (1,)]),
        (".csv", ["sun; sea", "sea", "sun", "sun"], [(0, 1), (0,), (1,), (1,)]),
        (".csv", ["sun,sea", "sea", "sun", "sun"], [(0, 1), (0,), (1,), (1,)]),
        (".csv", ['["sun", "sea"]', '["sea"]', "[]", '["sun"]'], [(0, 1), (0,), (), (1,)]),
    ],
)
def test_several_labels__in_lists_or_strings(kind, cells, expected, pictures):
    source = open_source(write(pictures / f"t{kind}", {"path": NAMES, "labels": cells}))
    assert source.task == "multilabel"
    assert source.labels.names == ("sea", "sun")
    assert list(targets(source).values()) == expected or sorted(targets(source).items()) == sorted(
        zip(NAMES, expected, strict=True)
    )


def test_several_labels__in_columns_of_0_and_1(pictures):
    columns = {"path": NAMES, "sun": [1, 0, 0, 1], "sea": [1, 1, 0, 0]}
    source = open_source(write(pictures / "t.csv", columns))
    assert source.task == "multilabel"
    assert source.labels.names == ("sun", "sea")
    assert targets(source) == {"a.png": (0, 1), "sub/b.png": (1,), "c.png": (), "d.png": (0,)}
    named = open_source(pictures / "t.csv", columns={"label": ["sea"]})
    assert named.labels.names == ("sea",)


def test_name_with_a_comma__is_one_label(pictures):
    names = ["tench, Tinca tinca", "goldfish, Carassius auratus", "tench, Tinca tinca", "goldfish, Carassius auratus"]
    source = open_source(write(pictures / "t.csv", {"path": NAMES, "label": names}))
    assert source.task == "classification"
    assert source.labels.names == (names[1], names[0])


def test_task__overrides_how_cells_are_read(pictures):
    path = write(pictures / "t.csv", {"path": NAMES, "label": ["a|b", "a|b", "c", "c"]})
    assert open_source(path).task == "multilabel"
    assert any("task='classification'" in note for note in open_source(path).notes)
    assert open_source(path, task="classification").labels.names == ("a|b", "c")
    spaced = write(pictures / "u.csv", {"path": NAMES, "tags": ["haze primary", "primary", "haze", "haze"]})
    assert open_source(spaced, task="multilabel").labels.names == ("haze", "primary")
    assert (
        open_source(write(pictures / "v.csv", {"path": NAMES, "label": LABELS}), task="multilabel").task == "multilabel"
    )


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_masks__in_a_column(kind, pictures):
    for i in range(4):
        put_mask(pictures / "gt" / f"{i}.png", [[i % 2] * 16] * 12)
    path = write(pictures / f"t{kind}", {"path": NAMES, "mask": [f"gt/{i}.png" for i in range(4)]})
    source = open_source(path, labels=["a", "b"])
    assert source.task == "segmentation"
    found = {sample.key: int(sample.mask().unique()) for split in source.splits.values() for sample in split}
    assert found == {name: i % 2 for i, name in enumerate(NAMES)}


def test_splits__from_a_column_or_from_the_tables_names(pictures):
    write(pictures / "all.csv", {"path": NAMES, "label": LABELS, "split": ["train", "TRAIN", "val", "testing"]})
    source = open_source(pictures / "all.csv")
    assert {split: [s.key for s in of] for split, of in source.splits.items()} == {
        "train": ["a.png", "sub/b.png"],
        "validation": ["c.png"],
        "test": ["d.png"],
    }
    (pictures / "all.csv").unlink()
    write(pictures / "train.csv", {"path": NAMES[:2], "label": LABELS[:2]})
    write(pictures / "valid.csv", {"path": NAMES[2:], "label": LABELS[2:]})
    source = open_source(pictures)
    assert {split: [s.key for s in of] for split, of in source.splits.items()} == {
        "train": ["a.png", "sub/b.png"],
        "validation": ["c.png", "d.png"],
    }


def test_metadata_in_each_split__as_datasets_wants_it(tmp_path):
    for split in ("train", "test"):
        for i in range(4):
            put(tmp_path / split / f"{i}.png", noise(seed=i))
        with (tmp_path / split / "metadata.jsonl").open("w") as file:
            for i in range(4):
                file.write(json.dumps({"file_name": f"{i}.png", "label": "ab"[i % 2]}) + "\n")
    source = open_source(tmp_path, validation=0)
    assert {split: [s.key for s in of] for split, of in source.splits.items()} == {
        split: [f"{split}/{i}.png" for i in range(4)] for split in ("train", "test")
    }


def test_ids_without_ending_in_a_folder_beside_the_table(tmp_path):
    """As competitions hand them out."""
    for i in range(4):
        put(tmp_path / "train" / f"{i:03}.jpg", noise(seed=i))
    write(tmp_path / "train.csv", {"image_id": [f"{i:03}" for i in range(4)], "label": list("abab")})
    source = open_source(tmp_path / "train.csv", validation=0)
    assert all_keys(source) == [f"train/{i:03}.jpg" for i in range(4)]


def test_names_in_any_letters__are_found(tmp_path):
    put(tmp_path / "cafe\u0301.png", noise(seed=0))
    put(tmp_path / "猫.png", noise(seed=1))
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), ("caf\u00e9.png", "x"), ("猫.png", "ÿ")])
    assert all_keys(open_source(tmp_path / "t.csv")) == ["caf\u00e9.png", "猫.png"]


def test_numbers__are_ids_of_a_list_and_names_without_one(pictures):
    path = write(pictures / "t.csv", {"path": NAMES, "label": [1, 2, 10, 1]})
    assert open_source(path).labels.names == ("1", "2", "10")
    write(path, {"path": NAMES, "label": [1, 2, 0, 1]})
    assert targets(open_source(path, labels=["a", "b", "c"]))["sub/b.png"] == 2
    with pytest.raises(DataError, match=r"1 label in the data is not among the 2 of the given labels: '2'.*start at 1"):
        open_source(path, labels=["a", "b"])
    assert targets(open_source(path, labels={0: "a", 1: "b", 2: "c"}))["a.png"] == 1


# --- what is wrong with tables ----------------------------------------------------------------------------------------


def test_missing_files__are_named(pictures):
    path = write(pictures / "t.csv", {"path": [*NAMES, "x.png", "y.png"], "label": [*LABELS, "cat", "cat"]})
    with pytest.raises(
        UnreadableError, match=r"2 of 6 files in .*t\.csv are not there: 'x\.png', 'y\.png'\. Paths are"
    ):
        open_source(path)


def test_same_picture_twice__is_an_error(pictures):
    path = write(pictures / "t.csv", {"path": [*NAMES, "a.png"], "label": [*LABELS, "dog"]})
    with pytest.raises(DataError, match=r"a\.png is there more than once"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "path,label\n", "no rows below its heading"),
        ("t.csv", "", "no rows"),
        ("t.csv", "path,label\na.png,cat,dog\n", r"Row 2 of .*t\.csv has 3 cells, and the heading 2.*quotation marks"),
        ("t.csv", "path,path\na.png,b\n", "two columns of the same name"),
        ("t.csv", "title,label\nsome,cat\n", r"No column of .*t\.csv has the paths.*columns=\{'picture'"),
        ("t.csv", "path,size,sharp\na.png,3,5\n", r"No column of .* is sure to hold the labels"),
        ("t.jsonl", '{"path": "a.png", "label": "x"}\n{', r"Line 2 of .*t\.jsonl is not valid JSON"),
        ("t.jsonl", "[1]\n", "Line 1 .* is not an object"),
        ("t.parquet", "PAR1", "not a Parquet file that can be read"),
        ("t.csv", "path,label\na.png,cat\nc.png,cat\n", "only one class, 'cat'.*folder above"),
        ("t.csv", "path,label\na.png,\nc.png,\n", "No picture has a label"),
    ],
)
def test_bad_table__is_refused_with_what_to_do(name, content, said, pictures):
    (pictures / name).write_text(content)
    with pytest.raises(DataError, match=said):
        open_source(pictures / name)


def test_table_that_is_not_utf_8__is_refused(pictures):
    (pictures / "t.csv").write_bytes("path,label\na.png,é\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not text in UTF-8.*Save the table as UTF-8"):
        open_source(pictures / "t.csv")


def test_parquet__of_another_writer_and_types(pictures):
    table = pa.table(
        {"path": pa.array(NAMES, pa.large_string()), "label": pa.array(LABELS).dictionary_encode(), "n": [1, 2, 3, 4]}
    )
    pq.write_table(table, pictures / "t.parquet", row_group_size=2)
    assert open_source(pictures / "t.parquet").labels.names == ("cat", "dog")
