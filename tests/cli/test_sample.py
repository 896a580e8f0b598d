import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

PROGRAM = Path(sys.executable).with_name("lumora")


def test_sample_scenes__as_a_program(tmp_path):
    arguments = ["--count", "9", "--size", "32x24", "--task", "segmentation", "--format", "png", "--json"]
    done = subprocess.run(
        [PROGRAM, "sample", "scenes", tmp_path / "data", *arguments], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert (told["task"], told["width"], told["height"]) == ("segmentation", 32, 24)
    assert sum(told["splits"].values()) == 9
    assert told["labels"] == (tmp_path / "data" / "classes.txt").read_text().split()
    pictures = list((tmp_path / "data" / "images").rglob("*.png"))
    assert [Image.open(path).size for path in pictures] == [(32, 24)] * 9
    assert done.stderr == ""


def test_sample_scenes__says_what_was_written(lumora, tmp_path):
    ended = lumora("sample", "scenes", tmp_path / "data", "--count", "16", "--size", "16")
    assert (ended.code, ended.err) == (0, "")
    assert "8 train, 4 validation, 4 test" in ended.out
    assert "harbour" in ended.out


def test_sample_scenes__full_folder(lumora, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    arguments = "sample", "scenes", tmp_path, "--count", "1", "--size", "16"
    ended = lumora(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error: {tmp_path} is not empty.")
    assert lumora(*arguments, "--force").code == 0


@pytest.mark.parametrize(
    "arguments",
    [["--size", "large"], ["--size", "1x2x3"], ["--count", "0"], ["--task", "detection"], ["--format", "gif"]],
)
def test_sample_scenes__misuse(lumora, tmp_path, arguments):
    ended = lumora("sample", "scenes", tmp_path / "data", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert not (tmp_path / "data").exists()


def test_sample_scenes__killed_leaves_no_half_picture(tmp_path):
    root = tmp_path / "data"
    running = subprocess.Popen([PROGRAM, "sample", "scenes", root, "--count", "5000", "--size", "64"])
    until = time.monotonic() + 60
    while len(list(root.glob("*/*/*.jpg"))) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    pictures = list(root.glob("*/*/*.jpg"))
    assert 20 <= len(pictures) < 5000
    for path in pictures:
        Image.open(path).load()  # raises on a truncated file
