import numpy as np
import pytest
from tests.data.making import all_keys, class_folders, keys, noise, put, put_mask
from tests.data.test_reading import png_that_claims

from lumora.data import Labels, Limits, open_source
from lumora.errors import DataError, LayoutError, TooLargeError, UnreadableError


def test_source__is_the_same_each_time_and_in_another_place(tmp_path):
    for place in ("here", "there"):
        class_folders(tmp_path / place, each=20)
    here, again, there = (open_source(tmp_path / place) for place in ("here", "here", "there"))
    for split in here.splits:
        assert keys(here, split) == keys(again, split) == keys(there, split)
    assert keys(open_source(tmp_path / "here", seed=1), "train") != keys(here, "train")


def test_shares__of_validation_and_test(tmp_path):
    class_folders(tmp_path, each=60)
    source = open_source(tmp_path, validation=0.3, test=0.3)
    assert list(source.splits) == ["train", "validation", "test"]
    assert all(25 < len(samples) < 65 for samples in source.splits.values())
    assert list(open_source(tmp_path, validation=0).splits) == ["train"]
    assert list(open_source(tmp_path, validation=0, test=0.5).splits) == ["train", "test"]


def test_note__says_whether_near_duplicates_stay_together(tmp_path):
    class_folders(tmp_path)
    assert "near duplicates stay together" in open_source(tmp_path).notes[-1]
    assert "near duplicates" not in open_source(tmp_path, near_duplicates_together=False).notes[-1]


def test_splits__that_are_all_there_are_not_said_to_be_drawn(tmp_path):
    class_folders(tmp_path, splits=("train", "test"))
    source = open_source(tmp_path, validation=0, test=0.1)
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 8, "test": 8}
    assert not any("Drawn" in note for note in source.notes)


@pytest.mark.parametrize(("validation", "test"), [(1.0, 0.0), (-0.1, 0.0), (0.5, 0.5), (20, 0)])
def test_shares_that_leave_nothing__are_refused(validation, test, tmp_path):
    class_folders(tmp_path)
    with pytest.raises(DataError, match="leave nothing to learn from; give parts from 0 to 1"):
        open_source(tmp_path, validation=validation, test=test)


def test_one_class__is_refused_with_what_to_do(tmp_path):
    class_folders(tmp_path, ("cat",))
    with pytest.raises(DataError, match=r"only one class, 'cat'.*folder above it.*add pictures of what it is not"):
        open_source(tmp_path)


def test_one_class_of_masks__can_be_learnt(tmp_path):
    for i in range(3):
        put(tmp_path / "images" / f"{i}.png", noise(seed=i))
        put_mask(tmp_path / "masks" / f"{i}.png", np.where(noise(seed=i)[..., 0] > 99, 255, 0))
    assert open_source(tmp_path, labels=["crack"]).labels.names == ("crack",)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            [],
            r"(?s)No pictures with labels or masks were found in .*: it has nothing\."
            r".*\n  - a folder of pictures for each class",
        ),
        (["cat/1.heic", "dog/1.heic"], r"it has 2 folders \(cat, dog\)"),
        (["1.heic", "2.heic", "a.txt"], r"it has 2 \.heic, 1 \.txt\. Pictures end in"),
        (["1.png", "2.png"], r"has 2 pictures, but nothing that says what they show.*folder with the class's name"),
        (
            ["train/1.png", "test/2.png"],
            r"has no class folders with pictures in them; it has 2 folders \(test, train\)",
        ),
        ([".ipynb_checkpoints/1.png", "__MACOSX/cat/1.png"], "it has nothing"),
    ],
)
def test_folder_without_samples__says_what_is_there_and_what_to_do(files, said, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(LayoutError, match=said):
        open_source(tmp_path)


def test_missing_path__is_said_with_the_nearest(tmp_path):
    (tmp_path / "flowers").mkdir()
    with pytest.raises(DataError, match=r"no file or folder .*flowres\. Did you mean .*flowers\?"):
        open_source(tmp_path / "flowres")
    with pytest.raises(DataError, match=r"There is not even .*nowhere"):
        open_source(tmp_path / "nowhere" / "data")
    with pytest.raises(DataError, match=r"no file or folder table\.csv"):
        open_source("table.csv")


def test_single_file_of_another_kind__is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(LayoutError, match=r"data\.zip is a single file that is no table or archive"):
        open_source(tmp_path / "data.zip")
    with pytest.raises(LayoutError, match="A list is nothing that can be opened"):
        open_source([1, 2])  # type: ignore[arg-type]


def test_layout__can_be_chosen(tmp_path):
    """Folders called images and masks may be classes."""
    for name in ("images", "masks"):
        for i in range(4):
            put_mask(tmp_path / name / f"{i}.png", np.full((9, 9), i))
    assert open_source(tmp_path).task == "segmentation"
    source = open_source(tmp_path, layout="class-folders")
    assert source.labels.names == ("images", "masks")
    with pytest.raises(LayoutError, match=r"no layout 'class-folder'\. Did you mean 'class-folders'"):
        open_source(tmp_path, layout="class-folder")
    with pytest.raises(LayoutError, match="cannot be read as a dataset's name on the Hub; it may be 'saved', 'voc'"):
        open_source(tmp_path, layout="hub")
    with pytest.raises(LayoutError, match=r"does not look like a table .*Name the columns"):
        open_source(tmp_path, layout="table")


def test_task__that_the_data_do_not_have_is_refused(tmp_path):
    class_folders(tmp_path)
    with pytest.raises(LayoutError, match=r"read as class folders, which gives classification and not segmentation"):
        open_source(tmp_path, task="segmentation")
    with pytest.raises(DataError, match="task is 'detection'; it may be 'classification'"):
        open_source(tmp_path, task="detection")  # type: ignore[arg-type]
    several = open_source(tmp_path, task="multilabel")
    assert {sample.target for split in several.splits.values() for sample in split} == {(0,), (1,)}


@pytest.mark.parametrize("layout", ["saved", "voc", "ade20k", "webdataset", "parquet", "table", "images-masks"])
def test_layout_that_the_data_do_not_have__is_an_error_in_words(layout, tmp_path):
    class_folders(tmp_path)
    with pytest.raises(LayoutError, match=r"does not look like .*It has 2 folders \(cat, dog\)"):
        open_source(tmp_path, layout=layout)


def test_damaged_and_large_pictures__are_listed_and_refused_when_read(tmp_path):
    class_folders(tmp_path, each=6)
    (tmp_path / "cat" / "empty.jpg").touch()
    (tmp_path / "dog" / "large.png").write_bytes(png_that_claims(20_000, 10_000))
    put(tmp_path / "cat" / "tiny.png", noise(1, 1))
    source = open_source(tmp_path)
    samples = {sample.key: sample for split in source.splits.values() for sample in split}
    assert len(samples) == 15
    with pytest.raises(UnreadableError, match=r"empty\.jpg is empty"):
        samples["cat/empty.jpg"].picture()
    with pytest.raises(TooLargeError, match=r"large\.png is 20,000 x 10,000.*limit is 80,000,000"):
        samples["dog/large.png"].picture()
    assert samples["cat/tiny.png"].picture().shape == (3, 1, 1)


def test_limits__reach_every_picture(tmp_path):
    class_folders(tmp_path)
    source = open_source(tmp_path, limits=Limits(pixels=100), validation=0)
    with pytest.raises(TooLargeError, match=r"limit is 100\. Make it smaller"):
        source.splits["train"][0].picture()


def test_paths__may_be_text_with_a_tilde_or_in_any_script(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    class_folders(tmp_path / "Bilder – 写真 🦔")
    assert open_source("~/Bilder – 写真 🦔").labels == Labels(("cat", "dog"))
    monkeypatch.chdir(tmp_path)
    assert len(all_keys(open_source("Bilder – 写真 🦔"))) == 8


@pytest.mark.parametrize("at", ["data", "d\udce9"])
def test_names__that_are_no_text_are_names_like_others(at, tmp_path):
    try:
        class_folders(tmp_path / at)
        put(tmp_path / at / "cat" / "caf\udce9.png")
    except OSError:
        pytest.skip("names of files are text here")
    source = open_source(tmp_path / at)
    assert "cat/caf\udce9.png" in all_keys(source)
    assert list(source.splits) == ["train", "validation"]


def test_key__finds_the_picture_again(tmp_path):
    class_folders(tmp_path, ("cat", "dög"))
    source = open_source(tmp_path)
    for split in source.splits.values():
        for sample in split:
            assert sample.path == tmp_path / sample.key


def test_import__brings_no_library_that_is_not_needed():
    import subprocess
    import sys

    heavy = "pandas pyarrow datasets torchvision transformers timm sklearn matplotlib PIL huggingface_hub".split()
    code = f"import lumora.data, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
