import os
import unicodedata

import pytest
from tests.data.making import put
from tests.processes import in_a_process, reachable_folder

from lumora.data.listing import Folder, contents_in_words, opened
from lumora.data.split_names import split_folders, split_of
from lumora.errors import LayoutError


def test_folder__lists_pictures_and_not_what_is_hidden(tmp_path):
    for name in ("b.JPG", "a.png", ".hidden.png", "._a.png", "Thumbs.db", "desktop.ini", "~$notes.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("cats", ".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.webp").write_bytes(b"x")
    folder = Folder(tmp_path)
    assert list(folder.pictures) == ["a.png", "b.JPG"]
    assert list(folder.files) == ["a.png", "b.JPG", "notes.txt"]
    assert [folder.key(path) for path in folder.all_pictures()] == ["a.png", "b.JPG", "cats/c.webp"]


def test_key__is_in_composed_letters_whatever_the_file_system_has(tmp_path):
    name = unicodedata.normalize("NFD", "café")
    put(tmp_path / name / f"{name}.png")
    folder = Folder(tmp_path)
    assert list(folder.folders) == ["caf\u00e9"]
    (path,) = folder.all_pictures()
    assert folder.key(path) == "caf\u00e9/caf\u00e9.png"
    assert path.is_file()


def test_names_that_only_look_the_same__are_both_kept(tmp_path):
    for name in ("caf\u00e9", "cafe\u0301"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.png").touch()
    folder = Folder(tmp_path)
    assert len(folder.folders) == len(folder.files) == 2
    assert {inner.path.name for inner in folder.folders.values()} == {"caf\u00e9", "cafe\u0301"}


def test_links__are_followed_but_not_in_circles(tmp_path):
    put(tmp_path / "real" / "a.png")
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cats").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data" / "self")
    folder = Folder(tmp_path / "data")
    assert [folder.key(path) for path in folder.all_pictures()] == ["cats/a.png"]


def test_opened__goes_down_to_where_the_data_begin(tmp_path):
    put(tmp_path / "download" / "flowers-v2" / "rose" / "1.png")
    put(tmp_path / "download" / "flowers-v2" / "tulip" / "1.png")
    assert opened(tmp_path).path == tmp_path / "download" / "flowers-v2"


@pytest.mark.parametrize("only", ["train", "cats"])
def test_opened__does_not_go_into_a_split_or_a_class(only, tmp_path):
    put(tmp_path / only / "a" / "1.png") if only == "train" else put(tmp_path / only / "1.png")
    assert opened(tmp_path).path == tmp_path


def test_contents__are_told_in_words(tmp_path):
    for name in ("1.heic", "2.heic", "x.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    assert contents_in_words(Folder(tmp_path)) == "1 folder (sub), 2 .heic, 1 .txt"
    assert contents_in_words(Folder(tmp_path / "sub")) == "nothing"


def test_file__is_no_folder(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(LayoutError, match="is not a folder"):
        opened(tmp_path / "a")


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train Train TRAIN training Training trainset train_set train-set train_data trn train2017 images_train",
        ),
        (
            "validation",
            "val valid validation Validation VAL val_set val2017 dev devel eval evaluation valset valid_images",
        ),
        ("test", "test testing Test test2014 testset test_set tst holdout hold-out test-data"),
        (
            None,
            "cats trains retrain testament value valley evaluate_me tr4in trainer 2017 unlabelled train_test validity",
        ),
    ],
)
def test_split__is_known_by_every_usual_name(split, names):
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


def test_class_called_train__is_a_class(tmp_path):
    for name in ("bus", "car", "train"):
        put(tmp_path / name / "1.png")
    assert split_folders(Folder(tmp_path)) == ({}, [])


def test_folder_beside_the_splits__is_left_out_with_a_note(tmp_path):
    for name in ("train", "test", "unlabelled", "val", "dev"):
        put(tmp_path / name / "x" / "1.png")
    (tmp_path / "docs").mkdir()
    splits, notes = split_folders(Folder(tmp_path))
    assert list(splits) == ["train", "validation", "test"]
    assert [folder.name for folder in splits["validation"]] == ["dev", "val"]
    assert notes == [
        "Left out: 'unlabelled', which lie beside the splits and are none.",
        "'dev', 'val' are taken together as validation.",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_unreadable_folder__is_named_with_what_to_do():
    with reachable_folder() as folder:
        locked = folder / "cats"
        locked.mkdir()
        locked.chmod(0)
        said = in_a_process(lambda: Folder(locked).files, without_rights=True)
    assert said.startswith(f"UnreadableError: The folder {locked} cannot be listed: Permission denied.")
    assert "chmod +rx" in said
