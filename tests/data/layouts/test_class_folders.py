import pytest
import torchvision
from tests.data.making import all_keys, class_folders, keys, noise, put

from lumora.data import open_source
from lumora.errors import DataError


def test_class_folders__are_classes_in_the_order_of_torchvision(tmp_path):
    class_folders(tmp_path, ("dog", "cat", "Zebra", "äffchen"))
    source = open_source(tmp_path)
    theirs = torchvision.datasets.ImageFolder(tmp_path)
    assert source.task == "classification"
    assert source.labels.names == tuple(theirs.classes)
    expected = {str(path): target for path, target in theirs.samples}
    ours = {str(sample.path): sample.target for split in source.splits.values() for sample in split}
    assert ours == expected
    assert list(source.splits) == ["train", "validation"]
    assert source.layout == "class folders"
    assert "layout 'class-folders'" in source.notes[0]
    assert any("seed 0" in note and "validation=" in note for note in source.notes)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "Testing"), ("TRAIN", "dev", "tst")]
)
def test_class_folders__in_splits_are_used_as_they_are(names, tmp_path):
    class_folders(tmp_path, splits=names)
    source = open_source(tmp_path)
    assert list(source.splits) == ["train", "validation", "test"]
    for split, name in zip(source.splits, names, strict=True):
        assert keys(source, split) == [f"{name}/{label}/{name}{i}.png" for label in ("cat", "dog") for i in range(4)]
    assert source.layout == "class folders in train, validation, test"


def test_class_folders__without_validation_give_some_of_train_and_none_of_test(tmp_path):
    class_folders(tmp_path, each=20, splits=("train", "test"))
    source = open_source(tmp_path)
    assert len(keys(source, "test")) == 40
    assert len(keys(source, "train")) + len(keys(source, "validation")) == 40
    assert all(key.startswith("train/") for key in keys(source, "validation"))
    assert list(open_source(tmp_path, validation=0).splits) == ["train", "test"]


def test_class_folders__may_hold_folders_and_skip_what_is_hidden(tmp_path):
    class_folders(tmp_path)
    put(tmp_path / "cat" / "2021" / "july" / "x.jpg")
    put(tmp_path / "cat" / ".ipynb_checkpoints" / "y.png")
    put(tmp_path / "__MACOSX" / "z.png")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    source = open_source(tmp_path)
    assert source.labels.names == ("cat", "dog")
    assert len(all_keys(source)) == 9
    assert "cat/2021/july/x.jpg" in all_keys(source)


def test_empty_class_folder_and_stray_pictures__are_left_out_with_a_note(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "horse").mkdir()
    put(tmp_path / "stray.png")
    source = open_source(tmp_path)
    assert source.labels.names == ("cat", "dog")
    assert any("without pictures" in note and "'horse'" in note for note in source.notes)
    assert any("no class folder" in note and "'stray.png'" in note for note in source.notes)


def test_class_missing_from_a_split__is_noted_with_what_to_do(tmp_path):
    class_folders(tmp_path, ("cat", "dog"), splits=("train",))
    class_folders(tmp_path, ("cat", "fox"), splits=("val",))
    notes = " ".join(open_source(tmp_path).notes)
    assert "No picture of the split train shows 'fox', so it cannot be learnt; move some there." in notes
    assert "No picture of the split validation shows 'dog', so it is not measured" in notes


def test_given_labels__set_the_order_and_must_have_every_folder(tmp_path):
    class_folders(tmp_path)
    assert open_source(tmp_path, labels=["dog", "cat"]).labels.names == ("dog", "cat")
    source = open_source(tmp_path, labels=["dog", "cat", "fox"])
    assert any("No picture shows 'fox'" in note for note in source.notes)
    with pytest.raises(
        DataError, match=r"1 label in the data is not among the 2 of the given labels: 'cat'.*mean 'cats'"
    ):
        open_source(tmp_path, labels=["dog", "cats"])


def test_list_beside_the_folders__sets_the_order_if_it_has_them_all(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "classes.txt").write_text("dog\nfox\ncat\n")
    assert open_source(tmp_path).labels.names == ("dog", "fox", "cat")
    (tmp_path / "classes.txt").write_text("dog\nfox\n")
    assert open_source(tmp_path).labels.names == ("cat", "dog")


def test_names__in_composed_and_decomposed_letters_are_one_class(tmp_path):
    for i, (split, name) in enumerate((("train", "caf\u00e9"), ("val", "cafe\u0301"), ("train", "猫"), ("val", "猫"))):
        put(tmp_path / split / name / f"{i}.png", noise(seed=i))
    source = open_source(tmp_path)
    assert source.labels.names == ("caf\u00e9", "猫")
    assert [sample.target for sample in source.splits["validation"]] == [0, 1]
    assert source.splits["validation"][0].picture().shape == (3, 12, 16)


def test_near_duplicates__stay_on_one_side(tmp_path):
    for i in range(30):
        pixels = noise(40, 40, seed=i)
        put(tmp_path / "cat" / f"{i}.png", pixels)
        put(tmp_path / "dog" / f"copy-of-{i}.jpg", pixels, quality=60)
    source = open_source(tmp_path)
    of = {"".join(filter(str.isdigit, key.rpartition("/")[2])): set() for key in all_keys(source)}
    for split in source.splits:
        for key in keys(source, split):
            of["".join(filter(str.isdigit, key.rpartition("/")[2]))].add(split)
    assert all(len(splits) == 1 for splits in of.values())
    apart = open_source(tmp_path, near_duplicates_together=False)
    assert keys(apart, "train") != keys(source, "train")
