import json
import subprocess
import sys

import pytest
from PIL import Image
from tests.data.doctor import made


@pytest.fixture
def data(tmp_path):
    return made.classes(tmp_path / "data")


def test_doctor__clean_data(lumora, data):
    ended = lumora("doctor", data)
    assert ended.code == 0
    assert "pictures:          44 (24 train, 20 validation)" in ended.out
    assert "labels:            cat, dog" in ended.out
    assert ended.out.endswith("Nothing is wrong.\n")
    assert "note: Read as classification from class folders" in ended.err


def test_doctor__warnings_alone_end_with_0(lumora, data):
    Image.new("RGB", (64, 48)).save(data / "train/cat/black.png")
    ended = lumora("doctor", data)
    assert ended.code == 0
    assert "Warnings: " in ended.out
    assert "train/cat/black.png" in ended.out
    assert ended.out.endswith("1 warning\n")


def test_doctor__errors_end_with_1(lumora, data):
    for i in range(7):
        (data / f"train/cat/0{i}.png").write_bytes(b"")
    ended = lumora("doctor", data)
    assert ended.code == 1
    assert "7 files with 0 bytes." in ended.out
    assert "and 2 more (--json lists all)" in ended.out
    assert ended.out.endswith("1 error\n")


def test_doctor__json_lists_every_file(lumora, data):
    for i in range(7):
        (data / f"train/cat/0{i}.png").write_bytes(b"")
    ended = lumora("doctor", data, "--json")
    assert ended.code == 1
    value = json.loads(ended.out)
    assert value["counts"] == {"error": 1, "warning": 0, "note": 0}
    (finding,) = value["findings"]
    assert (finding["kind"], finding["severity"]) == ("empty-file", "error")
    assert finding["files"] == [f"train/cat/0{i}.png" for i in range(7)]


def test_doctor__fix(lumora, data, tmp_path):
    (data / "train/cat/00.png").write_bytes(b"")
    out = tmp_path / "repaired"
    ended = lumora("doctor", data, "--fix", out)
    assert ended.code == 0
    assert "it cannot be read (empty-file)" in ended.out
    assert "The copy has 43 pictures." in ended.out
    assert ended.out.endswith("Nothing is wrong.\n")
    assert lumora("doctor", out).code == 0
    assert (data / "train/cat/00.png").exists()


def test_doctor__fix_as_json(lumora, data, tmp_path):
    (data / "train/cat/00.png").write_bytes(b"")
    value = json.loads(lumora("doctor", data, "--fix", tmp_path / "repaired", "--json").out)
    assert value["counts"]["error"] == 1
    assert value["repair"]["changes"] == [
        {"kind": "left-out", "file": "train/cat/00.png", "what": "it cannot be read (empty-file)"}
    ]
    assert value["repair"]["after"]["counts"]["error"] == 0


def test_doctor__what_masks_mean_can_be_said(lumora, tmp_path):
    root = made.masks(tmp_path / "data")
    (root / "labels.txt").unlink()
    ended = lumora("doctor", root, "--labels", "sky, sea, land", "--ignore", "255", "--ignore", "9")
    assert (ended.code, "labels:            sky, sea, land" in ended.out) == (0, True)
    assert lumora("doctor", root, "--labels", "sky,sea").code == 1


def test_doctor__which_columns_hold_what_can_be_said(lumora, data):
    files = sorted(path.relative_to(data) for path in data.rglob("*.png"))
    rows = [f"{file},{i % 2},{(i + 1) % 2},{file.parent.name}" for i, file in enumerate(files)]
    (data / "all.csv").write_text("\n".join(["where,warm,cold,species", *rows]))
    one = lumora("doctor", data, "--column", "picture=where", "--column", "label=species")
    assert f"labels:            {', '.join(made.CLASSES)}" in one.out
    two = lumora("doctor", data, *(f"--column={said}" for said in ("picture=where", "label=warm", "label=cold")))
    assert "multilabel" in two.out
    assert "labels:            warm, cold" in two.out
    assert (
        "no column 'specie'; did you mean 'species'?"
        in lumora("doctor", data / "all.csv", "--column", "label=specie").err
    )


def test_doctor__how_large_pictures_may_be_can_be_said(lumora, data):
    height, width = Image.open(next(data.rglob("*.png"))).size
    assert lumora("doctor", data, "--max-pixels", height * width).code == 0
    ended = lumora("doctor", data, "--max-pixels", height * width - 1)
    assert ended.code == 1
    assert f"{height * width:,} pixels, and the limit is {height * width - 1:,}" in ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument"),
        (["missing"], "There is no file or folder"),
        (["data", "--fix", "data/new"], "lies within the data"),
        (["data", "--fix", "full"], "is not empty"),
        (["data", "--task", "detection"], "is not one of 'classification'"),
        (["data", "--threads", "0"], "--threads"),
        (["data", "--max-pixels", "0"], "--max-pixels"),
        (["data", "--column", "species"], "'species' is not ROLE=NAME"),
    ],
)
def test_doctor__misuse_ends_with_2(lumora, data, monkeypatch, arguments, words):
    monkeypatch.chdir(data.parent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (data.parent / "full").mkdir()
    (data.parent / "full/mine.txt").touch()
    if arguments == ["missing"]:
        arguments = ["./missing/deep/folder"]
    ended = lumora("doctor", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert words in " ".join(ended.err.replace("│", " ").split())
    assert not (data / "new").exists()


def test_doctor__nothing_to_examine_ends_with_1(lumora, tmp_path):
    ended = lumora("doctor", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert "No pictures" in ended.err


def test_doctor__help_imports_nothing_heavy():
    program = (
        "import sys, atexit\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from lumora.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, "doctor", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "--fix" in done.stdout
