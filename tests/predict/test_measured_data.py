"""Which samples are measured, and that classes are matched by their names and by nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.bundle.making import LABELS
from tests.data.making import noise, put, put_mask
from tests.predict.test_evaluating import class_folders, mask_folders

from lumora.bundle import About, BaseReference
from lumora.data import Labels, open_source
from lumora.errors import DataError
from lumora.models import Preprocessing
from lumora.predict.measured_data import Reading, to_measure

TURNED = ("owl", "red fox", "otter")


def about(task="classification", names=LABELS, **data):
    base = BaseReference("somebody/base", None, "auto", 128, "transformers")
    recipe = {"data": data} if data else {}
    return About(
        task=task,
        labels=Labels(names),
        preprocessing=Preprocessing(resize=(32, 32)),
        size=(32, 32),
        base=base,
        method="lora",
        recipe=recipe,
    )


def classes(samples, names=LABELS):
    """Of each sample the name of the class that it is taken for."""
    return [names[sample.target] for sample in samples]


def folders_of(samples):
    """Of each sample the folder that it lies in, which is its class."""
    return [sample.path.parent.name for sample in samples]


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["path", "source", "list of labels"])
def test_classes__are_matched_by_name_in_any_order(given, tmp_path):
    data = class_folders(tmp_path / "data")
    if given == "list of labels":
        (data / "labels.txt").write_text("\n".join(TURNED))
    found = to_measure(open_source(data, labels=TURNED) if given == "source" else data, about())
    assert classes(found.samples) == folders_of(found.samples)
    assert (found.split, len(found.samples)) == ("test", 9)


def test_classes__of_a_dataset_have_names_and_their_numbers_are_its_own(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(TURNED))})
    put(tmp_path / "one.png", noise(20, 20))
    rows = {"image": [str(tmp_path / "one.png")] * 3, "label": [0, 1, 2]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    assert classes(to_measure(tmp_path / "saved", about()).samples) == list(TURNED)


def test_classes__that_are_numbers_are_the_bundles(tmp_path):
    rows = ["path,label", *(f"{i}.png,{i % 3}" for i in range(6))]
    for i in range(6):
        put(tmp_path / f"data/{i}.png", noise(20, 20, seed=i))
    (tmp_path / "data/labels.csv").write_text("\n".join(rows))
    assert [sample.target for sample in to_measure(tmp_path / "data", about()).samples] == [0, 1, 2] * 2


def test_classes__need_not_all_be_there(tmp_path):
    one = to_measure(class_folders(tmp_path / "one", classes=("otter",)), about())
    assert classes(one.samples) == ["otter"] * 3
    two = to_measure(class_folders(tmp_path / "two", classes=("owl", "otter")), about())
    assert set(classes(two.samples)) == {"owl", "otter"}
    assert classes(two.samples) == folders_of(two.samples)


def test_classes__that_the_bundle_does_not_know_are_refused_or_left_out(tmp_path):
    data = class_folders(tmp_path / "data", classes=("otter", "redfox", "wolf"))
    with pytest.raises(DataError) as told:
        to_measure(data, about())
    assert "2 classes that the model does not know: 'redfox', 'wolf'." in str(told.value)
    assert "For 'redfox', did you mean 'red fox'?" in str(told.value)
    assert "--leave-out-unknown" in str(told.value)
    left = to_measure(data, about(), reading=Reading(leave_out_unknown=True))
    assert classes(left.samples) == ["otter"] * 3
    assert "The model does not know 'redfox', 'wolf': 6 pictures were left out." in left.notes


def test_classes__of_several_labels(tmp_path):
    rows = ["path,owl,wolf,otter", *(f"{i}.png,{i & 1},{i >> 1 & 1},{i >> 2 & 1}" for i in range(8))]
    for i in range(8):
        put(tmp_path / f"data/{i}.png", noise(20, 20, seed=i))
    (tmp_path / "data/labels.csv").write_text("\n".join(rows))
    reading = Reading(columns={"picture": "path", "label": ["owl", "wolf", "otter"]})
    with pytest.raises(DataError, match="'wolf'"):
        to_measure(tmp_path / "data", about("multilabel"), reading=reading)
    left = to_measure(
        tmp_path / "data", about("multilabel"), reading=dataclasses.replace(reading, leave_out_unknown=True)
    )
    assert len(left.samples) == 8
    for i, sample in enumerate(left.samples):
        meant = {name for name, bit in (("owl", i & 1), ("otter", i >> 2 & 1)) if bit}
        assert {LABELS[target] for target in sample.target} == meant


# --- masks ------------------------------------------------------------------------------------------------------------


def test_masks__have_the_numbers_of_the_bundle(tmp_path):
    data = mask_folders(tmp_path / "data")
    plain = to_measure(data, about("segmentation")).samples
    (data / "labels.txt").write_text("\n".join(TURNED))
    turned = to_measure(data, about("segmentation")).samples
    new = torch.tensor([LABELS.index(name) for name in TURNED])
    for one, other in zip(plain, turned, strict=True):
        counts = one.mask() != 255
        assert other.mask()[~counts].eq(255).all()
        assert other.mask()[counts].long().equal(new[one.mask()[counts].long()])
        assert other.mask().dtype == torch.uint8
        assert other.picture().equal(one.picture())


def test_masks__classes_that_the_bundle_does_not_know_count_nowhere(tmp_path):
    data = mask_folders(tmp_path / "data")
    (data / "labels.txt").write_text("red fox\nwolf\nowl")
    with pytest.raises(DataError, match="'wolf'"):
        to_measure(data, about("segmentation"))
    left = to_measure(data, about("segmentation"), reading=Reading(leave_out_unknown=True))
    assert "The model does not know 'wolf': what is labelled so counts nowhere." in left.notes
    for sample, plain in zip(left.samples, open_source(data, validation=0).splits["train"], strict=True):
        wanted = plain.mask().clone()
        wanted[wanted == 1] = 255
        assert sample.mask().equal(wanted)


def test_masks__without_names_are_taken_for_the_bundles_and_that_is_told(tmp_path):
    data = mask_folders(tmp_path / "data")
    (data / "labels.txt").unlink()
    found = to_measure(data, about("segmentation"))
    assert [note for note in found.notes if "taken for the model's: 'red fox', 'otter', 'owl'" in note]
    guessed = to_measure(data, about("segmentation", names=("class 0", "class 1", "class 2", "class 3")))
    assert not [note for note in guessed.notes if "taken for" in note]
    for one, other in zip(found.samples, guessed.samples, strict=True):
        assert one.mask().equal(other.mask())


def test_masks__without_names_are_read_as_in_the_training(tmp_path):
    put(tmp_path / "data/images/0.png", noise(10, 10))
    ids = np.random.default_rng(0).integers(1, 4, (10, 10))
    put_mask(tmp_path / "data/masks/0.png", ids)
    numbered = about("segmentation", labels={"1": "red fox", "2": "otter", "3": "owl"})
    reduced = about("segmentation", reduce_labels=True)
    for trained in (numbered, reduced):
        [sample] = to_measure(tmp_path / "data", trained).samples
        assert np.array_equal(sample.mask().numpy(), ids - 1)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_splits__the_test_or_else_the_validation(tmp_path):
    data = class_folders(tmp_path / "data", splits=("train", "val"))
    assert to_measure(data, about()).split == "validation"
    assert to_measure(data, about(), "train").split == "train"
    with pytest.raises(DataError, match="no split 'test'; there is 'train', 'validation'"):
        to_measure(data, about(), "test")


def undivided(root):
    for name in LABELS:
        for i in range(10):
            put(root / name / f"{i}.png", noise(20, 20, seed=hash((name, i)) % 1000))
    return root


def test_splits__other_data_are_measured_whole(tmp_path):
    found = to_measure(undivided(tmp_path / "data"), about(path="elsewhere", validation=0.5))
    assert (found.split, len(found.samples)) == (None, 30)


def test_splits__of_the_training_data_are_drawn_as_then(tmp_path, monkeypatch):
    data = undivided(tmp_path / "data")
    source = open_source(data, validation=0.3, seed=4, near_duplicates_together=False)
    then = [sample.key for sample in source.splits["validation"]]
    shares = {"validation": 0.3, "seed": 4, "near_duplicates_together": False}
    monkeypatch.chdir(tmp_path)
    for place in ("data", str(data)):
        found = to_measure(data, about(path=place, **shares))
        assert (found.split, [sample.key for sample in found.samples]) == ("validation", then)
    asked = to_measure(data, about(path="elsewhere", **shares), "validation")
    assert [sample.key for sample in asked.samples] == then
