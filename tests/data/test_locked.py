"""Files and folders that may not be read. Root may read everything, so a child process becomes somebody else."""

import encodings.utf_8_sig  # noqa: F401  # somebody else may not read the files of root's Python
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.data.making import class_folders, noise, put, put_mask
from tests.processes import in_a_process, reachable_folder

from lumora.data import Cache, Pictures, open_source
from lumora.data.doctor import examine
from lumora.data.transforms import Compose
from lumora.errors import UnreadableError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
Image.init()


@pytest.fixture
def root():
    with reachable_folder() as folder:
        yield folder


def classes(root):
    return class_folders(root / "data")


def labels(root):
    (classes(root) / "labels.txt").write_text("dog\ncat\n")
    return root / "data"


def table(root):
    (classes(root) / "all.csv").write_text("path,label\ncat/0.png,odd\ndog/0.png,even\n")
    return root / "data"


def parquet(root):
    (root / "data").mkdir()
    pq.write_table(pa.table({"path": ["a.png"], "label": [1]}), root / "data/all.parquet")
    return root / "data"


def archive(root):
    (root / "data").mkdir()
    (root / "data/a.tar").write_bytes(bytes(1024))
    return root / "data"


def masks(root, images="images", folder="masks"):
    for i in range(3):
        put(root / "data" / images / f"{i}.png", noise(seed=i))
        put_mask(root / "data" / folder / f"{i}.png", np.full((12, 16), i % 2))
    return root / "data"


def voc(root):
    lists = masks(root, "JPEGImages", "SegmentationClass") / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    return root / "data"


@pytest.mark.parametrize(
    ("made", "locked", "opened", "said"),
    [
        (
            classes,
            [""],
            "",
            r"The folder {data} cannot be listed: Permission denied. Give yourself the right to read it",
        ),
        (classes, ["../data"], "cat", "{data}/cat cannot be reached: Permission denied. Check the path"),
        (classes, ["cat"], "", "The folder {data}/cat cannot be listed: Permission denied. Give yourself the right"),
        (masks, ["masks"], "", "The folder {data}/masks cannot be listed: Permission denied. Give yourself the right"),
        (labels, ["labels.txt"], "", "{data}/labels.txt cannot be opened: Permission denied. Give yourself the right"),
        (table, ["all.csv"], "", "{data}/all.csv cannot be opened: Permission denied. Give yourself the right to read"),
        (table, ["all.csv"], "all.csv", "{data}/all.csv cannot be opened: Permission denied. Give yourself the right"),
        (table, ["cat"], "all.csv", "Nothing in {data}/cat can be looked at: Permission denied. Give yourself the r"),
        (parquet, ["all.parquet"], "", "{data}/all.parquet cannot be opened: Permission denied. Give yourself the rig"),
        (archive, ["a.tar"], "", "{data}/a.tar cannot be opened: Permission denied. Give yourself the right to read"),
        (
            voc,
            ["ImageSets/Segmentation/train.txt"],
            "",
            "{data}/ImageSets/Segmentation/train.txt cannot be opened: Per",
        ),
        (
            masks,
            [f"masks/{i}.png" for i in range(3)],
            "",
            "None of the masks can be read. The first: {data}/masks/0.png cannot be opened: Permis",
        ),
    ],
)
def test_locked__is_named_with_what_to_do(made, locked, opened, said, root):
    data = made(root)
    for name in locked:
        (data / name).resolve().chmod(0)
    expected = said.format(data=data)
    assert in_a_process(lambda: open_source(data / opened), without_rights=True).startswith(
        f"UnreadableError: {expected}"
    )

    def examined():
        return "".join(finding.found for finding in examine(data / opened).findings if finding.severity == "error")

    assert expected in in_a_process(examined, without_rights=True)


def test_locked_picture__does_not_hinder_the_others(root):
    data = classes(root)
    (data / "cat/0.png").chmod(0)

    def read():
        samples = open_source(data, validation=0, near_duplicates_together=False).splits["train"]
        said = []
        for sample in samples:
            try:
                sample.picture()
            except UnreadableError as error:
                said.append(str(error))
        return f"{len(samples)}: {said}"

    assert in_a_process(read, without_rights=True) == (
        f"8: ['{data}/cat/0.png cannot be opened: Permission denied. Give yourself the right to read it (chmod +r), or "
        "leave it out.']"
    )
    found = in_a_process(
        lambda: [(f.kind, f.files) for f in examine(data).findings if f.severity == "error"], without_rights=True
    )
    assert found == "[('unreadable', ('cat/0.png',))]"


def test_picture_that_is_gone__is_an_error_in_words_with_a_cache_too(root):
    samples = open_source(classes(root), validation=0, near_duplicates_together=False).splits["train"]
    (root / "data/cat/0.png").unlink()
    pictures = Pictures(samples, Compose(()), cache=Cache(root / "cache"))
    with pytest.raises(UnreadableError, match=r"cat/0\.png cannot be opened: No such file.*moved or deleted"):
        pictures[0]


def test_cell_that_is_too_long_for_a_path__is_none(root):
    rows = [f"{'x' * 5000},cat/{i}.png,{i % 2}" for i in range(4)]
    (classes(root) / "all.csv").write_text("\n".join(["file,path,label", *rows]) + "\n")
    assert open_source(root / "data/all.csv").labels.names == ("0", "1")
