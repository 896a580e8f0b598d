import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from tests.data.making import all_keys, encoded, keys, noise

from lumora.data import open_source
from lumora.errors import LayoutError, UnreadableError


def shard(path, samples, mode="w"):
    """As the standard library writes it: members of one name belong together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def picture(i):
    return encoded(Image.fromarray(noise(seed=i)), "PNG")


def labelled(first, count, label=lambda i: str(i % 2).encode(), ending="cls"):
    return [
        member
        for i in range(first, first + count)
        for member in ((f"{i:04}.png", picture(i)), (f"{i:04}.{ending}", label(i)))
    ]


def test_shards__hold_pictures_and_ids(tmp_path):
    shard(tmp_path / "pets-000.tar", labelled(0, 4))
    shard(tmp_path / "pets-001.tar", labelled(4, 4))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    source = open_source(tmp_path)
    assert source.task == "classification"
    assert source.labels.names == ("cat", "dog")
    assert source.layout == "2 WebDataset shards"
    for split in source.splits.values():
        for sample in split:
            i = int(sample.key[-4:])
            assert sample.target == i % 2
            assert np.array_equal(sample.picture().permute(1, 2, 0), noise(seed=i))
            assert sample.path is None
    assert len(all_keys(source)) == 8


@pytest.mark.parametrize(
    ("ending", "label"),
    [
        ("txt", lambda i: ["cat", "dog"][i % 2].encode()),
        ("json", lambda i: json.dumps({"label": ["cat", "dog"][i % 2], "width": 3}).encode()),
        ("cls", lambda i: f"{['cat', 'dog'][i % 2]}\n".encode()),
    ],
)
def test_shards__hold_names(ending, label, tmp_path):
    source = open_source(shard(tmp_path / "pets.tar", labelled(0, 6, label, ending)))
    assert source.labels.names == ("cat", "dog")


def test_shards__hold_lists_of_labels(tmp_path):
    lists = [["sun"], ["sun", "sea"], [], ["sea"]]
    source = open_source(
        shard(tmp_path / "a.tar", labelled(0, 4, lambda i: json.dumps({"labels": lists[i]}).encode(), "json"))
    )
    assert source.task == "multilabel"
    targets = {s.key[-4:]: s.target for split in source.splits.values() for s in split}
    assert targets == {"0000": (1,), "0001": (0, 1), "0002": (), "0003": (0,)}


def test_shards__hold_masks(tmp_path):
    members = []
    for i in range(4):
        members += [(f"town/{i}.jpg", encoded(Image.fromarray(noise(seed=i)), "JPEG"))]
        members += [(f"town/{i}.seg.png", encoded(Image.fromarray(np.full((12, 16), i % 3, np.uint8)), "PNG"))]
        members += [(f"town/.{i}.jpg", b"hidden"), (f"__MACOSX/{i}.jpg", b"hidden")]
    source = open_source(shard(tmp_path / "a.tar", members), labels=["a", "b", "c"])
    assert source.task == "segmentation"
    found = {s.key: int(s.mask().unique()) for split in source.splits.values() for s in split}
    assert found == {f"a.tar/town/{i}": i % 3 for i in range(4)}


@pytest.mark.parametrize("name", ["{}-000.tar", "{}/000.tar", "{}_0001.tar"])
def test_splits__are_told_by_name_or_folder(name, tmp_path):
    shard(tmp_path / name.format("train"), labelled(0, 4))
    shard(tmp_path / name.format("val"), labelled(4, 2))
    source = open_source(tmp_path)
    assert {split: len(of) for split, of in source.splits.items()} == {"train": 4, "validation": 2}
    assert keys(source, "validation") == [f"{name.format('val')}/{i:04}" for i in (4, 5)]


def test_picture_alone__and_name_without_picture(tmp_path):
    members = [*labelled(0, 4), ("9999.cls", b"1"), ("8888.png", picture(88))]
    source = open_source(shard(tmp_path / "a.tar", members))
    assert len(all_keys(source)) == 5
    assert any("1 names in the shards have no picture" in note for note in source.notes)
    assert any("1 pictures have no label" in note for note in source.notes)


def test_listing__reads_no_picture(tmp_path):
    members = [(name, b"no picture" if name.endswith("png") else content) for name, content in labelled(0, 4)]
    source = open_source(shard(tmp_path / "a.tar", members), near_duplicates_together=False)
    with pytest.raises(UnreadableError, match=r"a\.tar:000\d\.png is not a picture"):
        source.splits["train"][0].picture()


def test_compressed_and_damaged_archives__are_refused_with_what_to_do(tmp_path):
    path = shard(tmp_path / "a.tar.gz", labelled(0, 4), "w:gz")
    with pytest.raises(LayoutError, match=r"compressed archive.*gunzip a\.tar\.gz"):
        open_source(path)
    (tmp_path / "b.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(UnreadableError, match=r"b\.tar is not a tar archive.*download it again"):
        open_source(tmp_path / "b.tar")
    (tmp_path / "c.tar").write_bytes(b"")
    with pytest.raises(UnreadableError, match=r"c\.tar is not a tar archive"):
        open_source(tmp_path / "c.tar")


def test_archive_cut_off_after_listing__is_named(tmp_path):
    path = shard(tmp_path / "a.tar", labelled(0, 4))
    source = open_source(path, near_duplicates_together=False, validation=0)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UnreadableError, match=r"a\.tar:0000\.png ends after 88 of .* bytes: the archive is cut off"):
        source.splits["train"][0].picture()


def test_names_of_different_samples__may_have_points_in_folders(tmp_path):
    members = [(f"v1.0/{name}", content) for name, content in labelled(0, 4)]
    assert all_keys(open_source(shard(tmp_path / "a.tar", members)))[0] == "a.tar/v1.0/0000"
