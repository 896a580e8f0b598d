import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tests.cli.bundles import PROGRAM
from tests.cli.predictions import lines_of
from tests.data.making import noise, put
from tests.predict.making import bundle_of

from lumora.errors import OutputError
from lumora.predict.files import Content, PredictionFiles


@pytest.fixture
def segmenter(tmp_path):
    return bundle_of("segformer", tmp_path)[0]


@pytest.fixture
def given(tmp_path):
    """A folder with four pictures."""
    for i, name in enumerate(("a.png", "b.jpg", "deep/a.png", "deep/c.png")):
        put(tmp_path / "pictures" / name, noise(40 + 10 * i, 60, seed=i))
    return tmp_path / "pictures"


def content_of(out):
    """Every file of a folder."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_resume__does_what_is_left_and_nothing_again(lumora, segmenter, given, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert lumora("predict", segmenter, given, "--out", whole).code == 0
    assert lumora("predict", segmenter, given / "a.png", "--out", out, "--resume").code == 0
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    ended = lumora("predict", segmenter, given, "--out", out, "--resume", "--json")
    assert ended.code == 0
    told = json.loads(ended.out)
    assert (told["pictures"], told["done_before"]) == (4, 1)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert content_of(out).keys() == content_of(whole).keys()
    shares = {line["picture"]: line["classes"] for line in lines_of(whole)}
    assert {line["picture"]: line["classes"] for line in lines_of(out)} == shares
    pixels = {
        name: sum(c["pixels"] for cs in shares.values() for c in cs if c["label"] == name) for name in told["pixels"]
    }
    assert told["pixels"] == pixels


@pytest.mark.parametrize("more", [["--resume"], []])
def test_predict__leaves_what_systems_leave_in_folders(lumora, segmenter, given, tmp_path, more):
    out = tmp_path / "out"
    assert lumora("predict", segmenter, given, "--out", out).code == 0
    left = [out / name for name in (".DS_Store", "masks/Thumbs.db", "overlays/deep/desktop.ini")]
    for path in left:
        path.write_bytes(b"left by the system")
    assert lumora("predict", segmenter, given, "--out", out, *more).code == 0
    assert {path.read_bytes() for path in left} == {b"left by the system"}
    assert len(lines_of(out)) == 4
    (out / ".env").write_text("mine")
    ended = lumora("predict", segmenter, given, "--out", out, *more)
    assert (ended.code, "holds other things (.env)" in ended.told) == (2, True)


def test_resume__knows_pictures_whose_paths_are_typed_otherwise(lumora, segmenter, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert lumora("predict", segmenter, "pictures/a.png", "pictures/deep/../b.jpg", "--out", out).code == 0
    before = content_of(out)
    for again in ([given / "a.png", given / "b.jpg"], ["pictures/deep/../a.png", "./pictures/b.jpg"]):
        assert lumora("predict", segmenter, *again, "--out", out, "--resume").code == 0
        assert content_of(out) == before
    assert lumora("predict", segmenter, given, "--out", out, "--resume").code == 0
    assert [line["picture"] for line in lines_of(out)] == [
        "pictures/a.png",
        "pictures/deep/../b.jpg",
        str(given / "deep/a.png"),
        str(given / "deep/c.png"),
    ]


def test_resume__from_another_folder_means_the_pictures_there(lumora, segmenter, given, tmp_path, monkeypatch):
    put(tmp_path / "other/a.png", noise(50, 60, seed=9))
    out = tmp_path / "out"
    for folder in (given / "deep", tmp_path / "other", tmp_path):
        monkeypatch.chdir(folder)
        again = [given / "deep/a.png", "other/a.png"] if folder == tmp_path else ["a.png"]
        assert lumora("predict", segmenter, *again, "--out", out, "--resume").code == 0
    lines = lines_of(out)
    assert [line["picture"] for line in lines] == ["a.png", "a.png"]
    assert [line["place"] for line in lines] == [str(given / "deep/a.png"), str(tmp_path / "other/a.png")]


def test_resume__mends_what_a_killed_process_left(lumora, segmenter, given, tmp_path):
    out = tmp_path / "out"
    assert lumora("predict", segmenter, given, "--out", out).code == 0
    before = content_of(out)
    first, second, third, _ = lines_of(out)
    half = out / first["mask"]
    half.write_bytes(half.read_bytes()[:-20])
    (out / second["overlay"]).write_bytes(b"")
    (out / third["overlay"]).unlink()
    (out / ".lumora").mkdir()
    (out / ".lumora/0123").write_bytes(b"half a mask")
    listed = out / "predictions.jsonl"
    listed.write_bytes(listed.read_bytes()[:-15])
    ended = lumora("predict", segmenter, given, "--out", out, "--resume", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["done_before"] == 0
    after = content_of(out)
    assert after.keys() == before.keys()
    assert {name: after[name] for name in before if name.startswith("masks")} == {
        name: before[name] for name in before if name.startswith("masks")
    }
    assert sorted(map(json.dumps, lines_of(out))) == sorted(before["predictions.jsonl"].decode().splitlines())


def test_resume__does_again_what_no_line_tells_of(lumora, segmenter, given, tmp_path):
    out = tmp_path / "out"
    assert lumora("predict", segmenter, given, "--out", out).code == 0
    before = content_of(out)
    listed = out / "predictions.jsonl"
    listed.write_bytes(listed.read_bytes().splitlines(keepends=True)[0])  # as after a power cut
    assert lumora("predict", segmenter, given, "--out", out, "--resume").code == 0
    assert content_of(out) == before


def test_resume__tries_again_what_could_not_be_read(lumora, segmenter, given, tmp_path):
    out, whole = tmp_path / "out", (given / "a.png").read_bytes()
    (given / "a.png").write_bytes(b"")
    assert lumora("predict", segmenter, given, "--out", out).code == 1
    assert lumora("predict", segmenter, given, "--out", out, "--resume").code == 1
    (given / "a.png").write_bytes(whole)
    assert lumora("predict", segmenter, given, "--out", out, "--resume").code == 0
    assert len(lines_of(out)) == 4
    assert not any("error" in line for line in lines_of(out))


def test_resume__refuses_what_was_made_otherwise(lumora, segmenter, given, tmp_path):
    out = tmp_path / "out"
    assert lumora("predict", segmenter, given, "--out", out).code == 0
    before = content_of(out)
    other = bundle_of("vit-light", tmp_path / "other")[0]
    for arguments, words in (
        ([other, given], 'identity: "sha256:'),
        ([segmenter, given, "--no-overlays"], "overlays: true there, false now"),
        ([segmenter, given, "--palette", "distinct"], "colours: [[255, 0, 0]"),
    ):
        ended = lumora("predict", *arguments, "--out", out, "--resume")
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.told
    assert content_of(out) == before


def test_resume__takes_a_bundle_that_was_moved(lumora, segmenter, given, tmp_path):
    out = tmp_path / "out"
    assert lumora("predict", segmenter, given / "a.png", "--out", out).code == 0
    segmenter.rename(tmp_path / "moved")
    assert lumora("predict", tmp_path / "moved", given, "--out", out, "--resume").code == 0
    assert len(lines_of(out)) == 4


def test_two_processes__do_not_write_into_one_folder(tmp_path):
    files = PredictionFiles(tmp_path / "out", {})
    with pytest.raises(OutputError, match=r"Another process is writing predictions into .*out; wait for it"):
        PredictionFiles(tmp_path / "out", {}, resume=True)
    files.close()
    PredictionFiles(tmp_path / "out", {}, resume=True).close()


def test_a_list_with_names_of_files_elsewhere__harms_nothing(tmp_path):
    files = PredictionFiles(tmp_path / "out", {})
    files.add(Content({"picture": "a"}, _png()), "a.png")
    files.close()
    precious = tmp_path / "precious.png"
    precious.write_bytes(b"mine")
    with (tmp_path / "out/predictions.jsonl").open("a") as file:
        file.writelines(
            json.dumps({"picture": "b", "mask": name}) + "\n" for name in ("../precious.png", str(precious))
        )
    PredictionFiles(tmp_path / "out", {}, resume=True).close()
    assert precious.read_bytes() == b"mine"


def _png():
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_predict__stopped_at_any_moment_goes_on(lumora, segmenter, tmp_path, signal_):
    for i in range(40):
        put(tmp_path / "pictures" / f"{i:02}.png", noise(300, 400, seed=i))
    arguments = ["predict", segmenter, tmp_path / "pictures", "--batch-size", 2]
    assert lumora(*arguments, "--out", tmp_path / "whole").code == 0
    whole = content_of(tmp_path / "whole")
    out = tmp_path / "out"
    for more in (1, 10, 20):
        before = _count(out)
        child = subprocess.Popen(
            [PROGRAM, *map(str, arguments), "--out", out, "--resume"],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Not before it has done some itself: a signal to a program that is only starting just ends it.
        while child.poll() is None and _count(out) < before + more:
            time.sleep(0.001)
        child.send_signal(signal_)
        _, told = child.communicate()
        if _count(out) == 40:  # it may have been at its end already
            continue
        assert child.returncode == (-signal_ if signal_ == signal.SIGKILL else 128 + signal_), told
        if signal_ != signal.SIGKILL:
            assert "the same command with --resume goes on with the others." in told
    assert lumora(*arguments, "--out", out, "--resume").code == 0
    after = content_of(out)
    assert after.keys() == whole.keys()
    assert [n for n in whole if n.startswith("masks") and after[n] != whole[n]] == []
    assert sorted(map(json.dumps, lines_of(out))) == sorted(map(json.dumps, lines_of(tmp_path / "whole")))


def _count(out):
    try:
        return (out / "predictions.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0
