"""The doctor's look at the data before a training."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from tests.training.tiny import sees, sees_places, settings

from lumora.data import open_source
from lumora.errors import DataError
from lumora.training import finetune, first_look, resume
from lumora.training.first_look import look_at


@pytest.fixture
def data(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    return tmp_path / "data"


ASKED = settings(train__epochs=1, data__near_duplicates_together=False)


def cut_off(file):
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut_off, "1 file damaged, cut off or no picture."),
        (lambda file: file.write_bytes(b""), "1 file with 0 bytes."),
        (lambda file: file.write_text("no picture"), "1 file damaged, cut off or no picture."),
    ],
)
def test_training__on_files_that_cannot_be_read_does_not_begin(data, tmp_path, harm, said):
    harm(data / "classes" / "red" / "3.png")
    with pytest.raises(DataError) as caught:
        finetune(data / "classes", sees(), out=tmp_path / "run", settings=ASKED)
    told = str(caught.value)
    assert told.startswith("The data cannot be learnt from as they are.\n- " + said)
    assert "'red/3.png'" in told
    assert "`lumora doctor`" in told
    assert "--skip-bad (data.skip_bad)" in told
    assert not (tmp_path / "run").exists()
    done = finetune(data / "classes", sees(), out=tmp_path / "run", settings={**ASKED, "data.skip_bad": True})
    [note] = [note for note in done.notes if "cannot be read" in note]
    assert "'red/3.png'" in note


def write_mask(file, change):
    ids = np.asarray(Image.open(file)).copy()
    Image.fromarray(change(ids)).save(file)


def with_an_unknown_id(ids):
    ids[:4, :4] = 9
    return ids


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_an_unknown_id, "1 mask with 9, which belong to none of the 3 labels"),
        (lambda ids: ids[:30], "another size"),
    ],
)
def test_training__on_masks_that_do_not_fit_does_not_begin(data, tmp_path, change, said):
    write_mask(data / "masked" / "masks" / "4.png", change)
    with pytest.raises(DataError, match=said):
        finetune(data / "masked", sees_places(), out=tmp_path / "run", settings=ASKED)
    done = finetune(data / "masked", sees_places(), out=tmp_path / "run", settings={**ASKED, "data.skip_bad": True})
    assert any("Left out of" in note and "4.png" in note for note in done.notes)


def test_training__tells_the_doctors_warnings_and_goes_on(data, tmp_path):
    Image.new("RGB", (40, 40), (9, 9, 9)).save(data / "classes" / "blue" / "black.png")
    Image.new("RGB", (20, 20), (99, 9, 9)).resize((16, 40)).save(data / "classes" / "blue" / "narrow.png")
    done = finetune(data / "classes", sees(), out=tmp_path / "run", settings=ASKED)
    assert any(note.startswith("The data: 2 pictures of one colour, which show nothing.") for note in done.notes)
    assert any("1 picture with a side of less than 32 pixels" in note for note in done.notes)
    assert "The data: 2 pictures of one colour" in (done.folder / "log.txt").read_text()


def test_resume__looks_at_the_data_again(data, tmp_path):
    finetune(data / "classes", sees(), out=tmp_path / "run", settings={**ASKED, "train.max_time": 0.001})
    cut_off(data / "classes" / "red" / "3.png")
    with pytest.raises(DataError, match="cut off"):
        resume(tmp_path / "run", base=sees())


def test_look__at_many_pictures_is_at_an_even_part_and_says_so(tmp_path):
    for i in range(150):
        place = tmp_path / "abc"[i % 3] / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        pixels = np.random.RandomState(i).randint(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place)
    source = open_source(tmp_path, near_duplicates_together=False)
    assert look_at(source, seconds=1e9) == []
    [told] = look_at(source, seconds=0.0)
    assert told == (
        "Of the data 32 of 150 pictures, evenly drawn, were looked at in the second that a first look takes; "
        "`lumora doctor` looks at all."
    )
    for file in (tmp_path / "b").iterdir():
        cut_off(file)
    with pytest.raises(DataError, match=r"32 of 150 pictures, evenly drawn, were looked at\.\n- 1?\d files damaged"):
        look_at(source, seconds=0.0)


@pytest.mark.parametrize(
    ("count", "in_time", "looked_at"),
    [(112, 111.0, 112), (112, 90.0, 112), (112, 50.5, 50), (112, 1e9, 112), (9000, 8000.0, 4096)],
)
def test_look__is_at_all_where_nearly_all_fit_into_the_time(count, in_time, looked_at):
    assert first_look._how_many(count, in_time) == looked_at


def test_look__leaves_the_test_pictures_alone(data):
    shutil.copytree(data / "classes", data / "split" / "train")
    shutil.copytree(data / "classes", data / "split" / "test")
    cut_off(data / "split" / "test" / "red" / "3.png")
    source = open_source(data / "split", near_duplicates_together=False)
    assert "test" in source.splits
    look_at(source)
