"""Datasets of the `datasets` library: at hand, saved, as Parquet, on the Hub."""

import datasets
import numpy as np
import pytest
from PIL import Image
from tests.data.making import all_keys, class_folders, encoded, noise, put

from lumora.data import open_source
from lumora.errors import DataError, HubError, LayoutError


def pictures(count):
    return [Image.fromarray(noise(seed=i)) for i in range(count)]


def labelled(count=6, **extra):
    columns = {"image": pictures(count), "label": [i % 2 for i in range(count)], **extra}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    return (
        datasets.Dataset.from_dict(columns)
        .cast_column("image", features["image"])
        .cast_column("label", features["label"])
    )


def assert_pictures(source, count=6):
    samples = sorted((sample for split in source.splits.values() for sample in split), key=lambda sample: sample.key)
    assert len(samples) == count
    for i, sample in enumerate(samples):
        assert np.array_equal(sample.picture().permute(1, 2, 0), noise(seed=i))
        assert sample.target == i % 2


def test_dataset__at_hand():
    source = open_source(labelled())
    assert source.task == "classification"
    assert source.labels.names == ("cat", "dog")
    assert source.layout == "a Dataset"
    assert any("Pictures from 'image', labels from 'label'" in note for note in source.notes)
    assert_pictures(source)


def test_dataset_dict__has_its_splits():
    data = datasets.DatasetDict({"train": labelled(6), "validation": labelled(2), "extra": labelled(2)})
    source = open_source(data)
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 6, "validation": 2}
    assert source.splits["train"][0].key == "train/00000000"
    assert any("Left out: 'extra'" in note for note in source.notes)


def test_listing__decodes_nothing(tmp_path):
    """What is listed is no picture at all."""
    broken = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"no picture", "path": None}] * 4, "label": [0, 1, 0, 1]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}),
    )
    assert len(all_keys(open_source(broken, near_duplicates_together=False))) == 4
    class_folders(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no picture")
    assert open_source(tmp_path).labels.names == ("cat", "dog")


def test_saved_dataset__is_read_from_its_folder(tmp_path):
    labelled().save_to_disk(tmp_path / "one")
    source = open_source(tmp_path / "one")
    assert source.layout == "a saved dataset"
    assert_pictures(source)
    datasets.DatasetDict({"train": labelled(4), "test": labelled(2)}).save_to_disk(tmp_path / "two")
    assert {k: len(v) for k, v in open_source(tmp_path / "two", validation=0).splits.items()} == {"train": 4, "test": 2}


def test_saved_dataset__that_is_damaged_is_named(tmp_path):
    labelled().save_to_disk(tmp_path / "one")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"")
    with pytest.raises(LayoutError, match=r"saved in .*one cannot be read.*Save it again"):
        open_source(tmp_path / "one")


def test_parquet_with_the_pictures_in_it__is_read(tmp_path):
    (tmp_path / "data").mkdir()
    labelled(6).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    labelled(2).to_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet")
    source = open_source(tmp_path)
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 6, "validation": 2}
    assert source.labels.names == ("cat", "dog")
    assert np.array_equal(source.splits["train"][3].picture().permute(1, 2, 0), noise(seed=3))
    single = open_source(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert len(all_keys(single)) == 6


def test_segmentation__has_a_second_picture_for_mask():
    masks = [Image.fromarray(np.full((12, 16), i % 3, np.uint8)) for i in range(6)]
    data = datasets.Dataset.from_dict({"image": pictures(6), "annotation": masks, "scene_category": [0, 1] * 3})
    data = data.cast_column("scene_category", datasets.ClassLabel(names=["indoor", "outdoor"]))
    source = open_source(data)
    assert source.task == "segmentation"
    found = {sample.key: int(sample.mask().unique()) for split in source.splits.values() for sample in split}
    assert found == {f"{i:08}": i % 3 for i in range(6)}
    scenes = open_source(data, task="classification")
    assert scenes.labels.names == ("indoor", "outdoor")
    assert_pictures(scenes)


def test_mask_column_called_label__is_a_mask():
    masks = [Image.fromarray(np.full((12, 16), i % 2, np.uint8)) for i in range(4)]
    data = datasets.Dataset.from_dict({"pixel_values": pictures(4), "label": masks})
    assert open_source(data, labels=["a", "b"]).task == "segmentation"


def test_several_labels__in_lists_of_class_labels():
    data = datasets.Dataset.from_dict({"image": pictures(3), "labels": [[0, 1], [], [1]]})
    data = data.cast_column("labels", datasets.List(datasets.ClassLabel(names=["sun", "sea"])))
    source = open_source(data)
    assert source.task == "multilabel"
    assert source.labels.names == ("sun", "sea")
    targets = {sample.key: sample.target for split in source.splits.values() for sample in split}
    assert targets == {"00000000": (0, 1), "00000001": (), "00000002": (1,)}


def test_paths_instead_of_pictures__are_read_as_files(tmp_path):
    paths = [str(put(tmp_path / f"{i}.png", noise(seed=i))) for i in range(6)]
    data = datasets.Dataset.from_dict({"path": paths, "label": ["cat", "dog"] * 3})
    source = open_source(data)
    assert_pictures(source)
    cast = data.cast_column("path", datasets.Image())
    assert_pictures(open_source(cast))


def test_columns__can_be_named():
    data = labelled(6, other=["x", "y", "z"] * 2)
    assert open_source(data, columns={"label": "other"}).labels.names == ("x", "y", "z")
    with pytest.raises(LayoutError, match="no column 'labell'; did you mean 'label'"):
        open_source(data, columns={"label": "labell"})


def test_missing_label__is_none():
    data = datasets.Dataset.from_dict({"image": pictures(3), "label": [0, 1, -1]})
    data = data.cast_column("label", datasets.ClassLabel(names=["a", "b"]))
    source = open_source(data)
    assert [s.target for split in source.splits.values() for s in split].count(None) == 1
    assert any("1 pictures have no label" in note for note in source.notes)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": [1, 2]}, r"has no column of pictures: 'x'.*datasets\.Image\(\)"),
        ({"image": pictures(2), "a": [1.5, 2.5], "b": [3.5, 4.5]}, "No column of .* is sure to hold the labels"),
        ({"image": pictures(2), "label": [[0], [1]]}, None),
    ],
)
def test_table_without_what_is_needed__is_refused(columns, said):
    data = datasets.Dataset.from_dict(columns)
    if said is None:
        assert open_source(data).task == "multilabel"
        return
    with pytest.raises(LayoutError, match=said):
        open_source(data)


def test_empty_dataset_and_stream__are_refused():
    with pytest.raises(DataError, match="holds no samples"):
        open_source(labelled(2).select([]))
    with pytest.raises(LayoutError, match=r"IterableDataset cannot be read; give a Dataset"):
        open_source(labelled(2).to_iterable_dataset())


def test_samples__can_be_sent_to_another_process():
    import pickle

    source = open_source(labelled(), near_duplicates_together=False)
    sample = pickle.loads(pickle.dumps(source.splits["train"][0]))
    assert sample.picture().equal(source.splits["train"][0].picture())


def test_hub__that_cannot_be_reached_is_said_at_once(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("food101", "user/pets", "hf:user/pets"):
        with pytest.raises(
            HubError, match=r"no file or folder '(food101|user/pets)' here, and the Hub cannot be reached"
        ):
            open_source(name)


def test_jpeg_with_exif__in_a_dataset_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(noise(20, 30)), "JPEG", exif=exif)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    data = datasets.Dataset.from_dict(
        {"image": [{"bytes": content, "path": None}] * 2, "label": [0, 1]}, features=features
    )
    assert open_source(data, validation=0).splits["train"][0].picture().shape == (3, 30, 20)
