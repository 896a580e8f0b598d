import subprocess
import sys

import pytest
from tests.data.making import class_folders, put

from lumora.data import open_source
from lumora.data.doctor import examine
from lumora.errors import DataError, LayoutError

OPENED = """
import sys
from lumora.data import open_source
from lumora.data.doctor import examine

names = []
sys.addaudithook(lambda event, arguments: names.append(str(arguments[0])) if event == "open" else None)
{opening}(sys.argv[1])
print(sum(name.endswith("all.csv") for name in names))
"""


def strange_table(root):
    """Class folders, and beside them a table whose headings say nothing."""
    class_folders(root)
    rows = [f"{name}/{i}.png,{('odd', 'even')[i % 2 == 0]}" for name in ("cat", "dog") for i in range(4)]
    (root / "things.csv").write_text("\n".join(["x,y", *rows]) + "\n")
    return {"picture": "x", "label": "y"}


def test_named_columns__choose_the_table(tmp_path):
    columns = strange_table(tmp_path)
    assert open_source(tmp_path, columns=columns).labels.names == ("even", "odd")


def test_named_columns__choose_the_same_layout_for_the_doctor(tmp_path):
    columns = strange_table(tmp_path)
    report = examine(tmp_path, columns=columns)
    assert (report.layout, report.labels) == ("table things.csv", ("even", "odd"))
    assert not any(finding.kind == "opening" for finding in report.findings)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("path,label\n", r"table .*all\.csv has no rows below its heading"),
        (
            "path,label\nmissing.png,cat\n",
            r"No column of .*all\.csv has the paths of pictures that are there: 'path', 'la",
        ),
        ("path,label\n0.png,cat,1\n", r"Row 2 of .*all\.csv has 3 cells, and the heading 2"),
    ],
)
@pytest.mark.parametrize("pictures", [0, 2])
def test_table_that_cannot_be_used__says_why(rows, said, pictures, tmp_path):
    for i in range(pictures):
        put(tmp_path / f"{i}.png")
    (tmp_path / "all.csv").write_text(rows)
    with pytest.raises(LayoutError, match=f"There is a table, but it cannot be used: .*{said}"):
        open_source(tmp_path)


@pytest.mark.parametrize("opening", [open_source, examine])
def test_empty_path__is_not_the_folder_that_one_is_in(opening, tmp_path, monkeypatch):
    monkeypatch.chdir(class_folders(tmp_path))
    with pytest.raises(DataError, match=r"The path of the data is empty; .* \('\.' for the folder you are in\)"):
        opening("")
    assert opening(".")


def test_doctor__reads_a_table_as_often_as_opening_it_does(tmp_path):
    for i in range(6):
        put(tmp_path / "pictures" / f"{i}.png")
    rows = [f"pictures/{i}.png,{i % 2}" for i in range(6)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    counted = [
        subprocess.run(
            [sys.executable, "-c", OPENED.format(opening=opening), tmp_path], capture_output=True, text=True, check=True
        ).stdout
        for opening in ("open_source", "examine")
    ]
    assert counted[0] == counted[1] != "0\n"
