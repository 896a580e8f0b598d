"""Data that are no class folders or pictures with masks: the same defects are found, and copies are ordinary files."""

import io
import tarfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.doctor import made

from lumora.data import Labels, Source, open_source
from lumora.data.doctor import examine, repair
from lumora.data.labels import voc_colour
from lumora.errors import OutputError


def png(seed):
    file = io.BytesIO()
    made.texture(seed).save(file, "png")
    return file.getvalue()


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        for i in range(24):
            for ending, content in (("png", png(i) if i != 5 else png(i)[:100]), ("cls", str(i % 2).encode())):
                member = tarfile.TarInfo(f"{i:04}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def test_shard(shard, tmp_path):
    report = examine(shard)
    (finding,) = report.findings
    assert (finding.kind, finding.files) == ("unreadable", (f"{shard}:0005.png",))
    copy = repair(report, tmp_path / "repaired")
    assert copy.after.findings == ()
    assert (tmp_path / "repaired/0/0004.png").read_bytes() == png(4)
    assert len(list((tmp_path / "repaired/1").iterdir())) == 11


def test_dataset(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as Pictures

    features = Features({"image": Pictures(), "label": ClassLabel(names=["cat", "dog"])})

    def rows(seeds):
        return Dataset.from_dict(
            {"image": [{"bytes": png(i), "path": None} for i in seeds], "label": [i % 2 for i in seeds]}, features
        )

    report = examine(DatasetDict({"train": rows(range(24)), "test": rows(range(23, 45))}))
    (finding,) = report.findings
    assert (finding.kind, len(finding.files)) == ("duplicates-across-splits", 2)
    copy = repair(report, tmp_path / "repaired")
    assert copy.after.findings == ()
    assert copy.after.splits == {"train": 24, "test": 21}
    assert copy.after.labels == ("cat", "dog")


def test_pascal_voc(tmp_path):
    root = tmp_path / "data"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for i in range(14):
        made.texture(i).save(root / f"JPEGImages/{i:03}.jpg")
    for i in range(12):
        mask = Image.fromarray(made.blocks(i), "P")
        mask.putpalette([value for number in range(256) for value in voc_colour(number)])
        mask.save(root / f"SegmentationClass/{i:03}.png")
    for split, numbers in (("train", range(8)), ("val", range(8, 12))):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(f"{i:03}" for i in numbers))
    report = examine(root, labels=["sky", "sea", "land"])
    assert report.kinds == {"mask-missing"}
    assert report.findings[0].severity == "note"
    copy = repair(report, tmp_path / "repaired")
    assert copy.changes == ()
    assert copy.after.findings == ()
    assert copy.after.splits == {"train": 8, "validation": 4}


@dataclass(frozen=True)
class Made:
    """A sample of one's own class."""

    key: str
    target: None = None
    path: None = None

    def picture(self):
        return torch.from_numpy(np.array(made.texture(int(self.key)))).permute(2, 0, 1)

    def mask(self):
        return torch.from_numpy(made.blocks(int(self.key)))


def test_samples_of_ones_own(tmp_path):
    samples = [Made(str(i)) for i in range(11)] + [Made("3")]
    source = Source("segmentation", Labels(("sky", "sea", "land")), {"train": samples}, "made samples")
    report = examine(source)
    assert report.kinds == {"duplicates"}
    copy = repair(report, tmp_path / "repaired")
    assert copy.after.findings == ()
    again = open_source(tmp_path / "repaired", validation=0).splits["train"]
    assert len(again) == 11
    for sample in again:
        number = sample.key.rpartition("/")[2].partition(".")[0]
        assert torch.equal(sample.picture(), Made(number).picture())
        assert torch.equal(sample.mask(), Made(number).mask())


class Unmasked(Made):
    def mask(self):
        return None


def test_samples_of_ones_own__without_a_mask(tmp_path):
    samples = [Made(str(i)) for i in range(11)] + [Unmasked("20")]
    report = examine(Source("segmentation", Labels(("sky", "sea", "land")), {"train": samples}, "made samples"))
    assert report.kinds == {"unreadable"}
    assert repair(report, tmp_path / "repaired").after.pictures == 11


def test_table__a_copy_may_lie_beside_it_but_not_among_its_pictures(tmp_path):
    made.classes(tmp_path / "pictures")
    rows = [f"{p.relative_to(tmp_path)},{p.parent.name}" for p in sorted(tmp_path.rglob("*.png"))]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    report = examine(tmp_path / "all.csv")
    assert report.findings == ()
    with pytest.raises(OutputError, match="within the data"):
        repair(report, tmp_path / "pictures/train/cat/new")
    assert repair(report, tmp_path / "repaired").after.pictures == 44
