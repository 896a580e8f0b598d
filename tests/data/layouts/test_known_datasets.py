"""Pascal VOC and ADE20K, as their makers pack them; read with torchvision too where it can."""

import numpy as np
import torchvision
from tests.data.making import keys, noise, put, put_mask

from lumora.data import IGNORE, open_source
from lumora.data.labels import voc_colour


def voc(root):
    base = root / "VOCdevkit" / "VOC2012"
    lists = {"train": ["2007_01", "2007_02"], "val": ["2007_03"], "trainval": ["2007_01", "2007_02", "2007_03"]}
    for i, name in enumerate(lists["trainval"]):
        put(base / "JPEGImages" / f"{name}.jpg", noise(seed=i))
        ids = np.random.default_rng(i).choice([0, 1, 20, 255], (12, 16))
        put_mask(base / "SegmentationClass" / f"{name}.png", ids, palette=[voc_colour(j) for j in range(256)])
        put_mask(base / "SegmentationObject" / f"{name}.png", ids)
    put(base / "JPEGImages" / "2007_09.jpg")
    for kind, of in (("Segmentation", lists), ("Main", lists)):
        (base / "ImageSets" / kind).mkdir(parents=True)
        for split, names in of.items():
            (base / "ImageSets" / kind / f"{split}.txt").write_text("\n".join(names) + "\n")
    for label, shown in {"cat": ["2007_01", "2007_03"], "dog": ["2007_01"]}.items():
        for split in ("train", "val", "trainval"):
            lines = [f"{name} {' 1' if name in shown else '-1'}" for name in lists[split]]
            (base / "ImageSets" / "Main" / f"{label}_{split}.txt").write_text("\n".join(lines))
    return root


def test_voc__is_what_torchvision_reads(tmp_path):
    voc(tmp_path)
    source = open_source(tmp_path)
    assert source.task == "segmentation"
    assert source.layout == "Pascal VOC segmentation; in train, validation"
    assert source.labels.names[0] == "background"
    assert len(source.labels) == 21
    for split, theirs in (("train", "train"), ("validation", "val")):
        pairs = torchvision.datasets.VOCSegmentation(tmp_path, image_set=theirs)
        assert len(source.splits[split]) == len(pairs)
        for sample, (picture, mask) in zip(source.splits[split], pairs, strict=True):
            assert np.array_equal(sample.picture().permute(1, 2, 0), picture)
            assert np.array_equal(sample.mask(), np.array(mask))  # 255 is where nothing counts


def test_voc__as_classes_has_what_each_picture_shows(tmp_path):
    source = open_source(voc(tmp_path), task="multilabel")
    assert source.labels.names == ("cat", "dog")
    assert [sample.target for sample in source.splits["train"]] == [(0, 1), ()]
    assert [sample.target for sample in source.splits["validation"]] == [(0,)]


def test_voc__of_other_programs_brings_its_own_labels(tmp_path):
    """As CVAT writes it: another list of labels, masks in colours."""
    table = np.array([(0, 0, 0), (250, 50, 83)], dtype=np.uint8)
    ids = np.random.default_rng(0).integers(0, 2, (12, 16))
    put(tmp_path / "JPEGImages" / "a.jpg")
    put(tmp_path / "SegmentationClass" / "a.png", table[ids])
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncrack:250,50,83::\n")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "default.txt").write_text("a\n")
    source = open_source(tmp_path, validation=0)
    assert source.labels.names == ("background", "crack")
    assert np.array_equal(source.splits["train"][0].mask(), ids)


def ade20k(root):
    base = root / "ADEChallengeData2016"
    for split, count in (("training", 3), ("validation", 2)):
        for i in range(count):
            name = f"ADE_{split[:5]}_{i:08}"
            put(base / "images" / split / f"{name}.jpg", noise(seed=i))
            put_mask(base / "annotations" / split / f"{name}.png", np.random.default_rng(i).integers(0, 151, (12, 16)))
    (base / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.15\t1\t1\t1\twall\n")
    (base / "sceneCategories.txt").write_text(
        "".join(f"ADE_{s}_{i:08} {'beach' if i else 'kitchen'}\n" for s in ("train", "valid") for i in range(3))
    )
    return root


def test_ade20k__counts_from_1_and_0_is_nothing(tmp_path):
    source = open_source(ade20k(tmp_path))
    assert source.task == "segmentation"
    assert (len(source.labels), source.labels.names[0], source.labels.names[149]) == (150, "wall", "flag")
    assert keys(source, "validation") == [f"images/validation/ADE_valid_{i:08}.jpg" for i in range(2)]
    for i, sample in enumerate(source.splits["train"]):
        raw = np.random.default_rng(i).integers(0, 151, (12, 16))
        assert np.array_equal(sample.mask(), np.where(raw == 0, IGNORE, raw - 1))
    assert any("reduce_labels=False" in note for note in source.notes)


def test_ade20k__as_scenes(tmp_path):
    source = open_source(ade20k(tmp_path), task="classification")
    assert source.labels.names == ("beach", "kitchen")
    assert [sample.target for sample in source.splits["train"]] == [1, 0, 0]
