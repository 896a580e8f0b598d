from pathlib import Path

import numpy as np
import pytest
from tests.data.making import class_folders

from lumora.data import Labels, Limits, open_source
from lumora.data.doctor import examine
from lumora.data.wishes import wishes_of
from lumora.errors import DataError, LayoutError


def test_wishes__hold_what_was_asked_for():
    wishes = wishes_of(
        task="segmentation",
        layout="table",
        labels=["sky", "sea"],
        ignore=[0, np.int64(9)],
        reduce_labels=False,
        columns={"picture": "file", "label": ["wet", "dry"]},
        subset="small",
        limits=Limits(pixels=5),
        validation=0,
        test=0.5,
        seed=3,
        near_duplicates_together=False,
    )
    assert (wishes.task, wishes.layout, wishes.ignore, wishes.reduce_labels) == ("segmentation", "table", (0, 9), False)
    assert wishes.labels is not None and wishes.labels.labels == Labels(("sky", "sea"))
    assert (wishes.columns, wishes.subset) == ({"picture": "file", "label": ["wet", "dry"]}, "small")
    assert (wishes.limits, wishes.shares, wishes.seed) == (Limits(pixels=5), {"test": 0.5}, 3)
    assert not wishes.near_duplicates_together


def test_wishes__of_nothing_leave_all_to_the_data():
    wishes = wishes_of()
    assert (wishes.task, wishes.layout, wishes.labels, wishes.reduce_labels, wishes.columns) == (
        *(None,) * 4,
        {},
    )
    assert (wishes.ignore, wishes.shares, wishes.limits) == ((255,), {"validation": 0.2}, Limits())


@pytest.mark.parametrize(
    ("argument", "kind", "said"),
    [
        ({"task": "detection"}, DataError, "task is 'detection'; it may be 'classification', 'multilabel'"),
        ({"layout": "tabel"}, LayoutError, "There is no layout 'tabel'. Did you mean 'table'?"),
        ({"layout": 3}, LayoutError, "There is no layout 3. There are 'saved'"),
        ({"labels": 3}, DataError, "labels is 3; give names in the order of their ids"),
        ({"labels": ["a", "a"]}, DataError, "'a' is there more than once"),
        (
            {"labels": "nowhere.txt"},
            DataError,
            r"no file nowhere\.txt that lists labels\. Check its path, or give 'voc'",
        ),
        ({"ignore": "255"}, DataError, "ignore is '255'; give the number in masks that counts nowhere, or a list"),
        ({"ignore": None}, DataError, "ignore is None"),
        ({"ignore": [255, 0.5]}, DataError, r"ignore is \[255, 0\.5\]"),
        ({"reduce_labels": "no"}, DataError, "reduce_labels is 'no'; it may be True or False"),
        ({"columns": ["a"]}, LayoutError, r"columns is \['a'\]; give what columns hold what"),
        ({"columns": {"lable": "x", "y": "z"}}, LayoutError, "columns names 'lable', 'y'; it may name 'picture', 'lab"),
        ({"columns": {"label": 1}}, LayoutError, "'label' is 1; give the heading of a column, or of several columns"),
        ({"columns": {"mask": ["a", "b"]}}, LayoutError, r"'mask' is \['a', 'b'\]; give the heading of a column\."),
        ({"subset": 1}, DataError, "subset is 1; give the name of a subset"),
        ({"limits": 1000}, DataError, r"limits is 1000; give Limits\(pixels=…\)"),
        ({"validation": "0.2"}, DataError, "give parts from 0 to 1, together below 1"),
        ({"seed": 0.5}, DataError, "seed is 0.5; give a whole number"),
    ],
)
def test_wishes__that_make_no_sense_are_refused(argument, kind, said):
    with pytest.raises(kind, match=said):
        wishes_of(**argument)


@pytest.mark.parametrize("opening", [open_source, examine])
def test_wrong_arguments__are_told_all_at_once(opening, tmp_path: Path):
    class_folders(tmp_path)
    with pytest.raises(DataError) as raised:
        opening(tmp_path, task="detection", layout="folders", labels=3, ignore="255", columns={"x": "y"})
    first, *rest = str(raised.value).splitlines()
    assert first == "5 arguments cannot be used as they are:"
    assert [line.split()[1] for line in rest] == ["task", "There", "labels", "ignore", "columns"]
