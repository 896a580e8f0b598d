import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lumora.data import Coding, Labels, read_mask
from lumora.errors import OutputError
from lumora.predict.files import Content, PredictionFiles, encoded_drawing, encoded_mask


@pytest.mark.parametrize("classes", [2, 150, 256, 300])
def test_encoded_mask__is_read_as_the_same_ids(classes):
    labels = Labels(tuple(f"class {i}" for i in range(classes)))
    ids = torch.arange(classes).repeat(2).view(2, -1)
    kind = torch.uint8 if classes <= 256 else torch.int32
    file = encoded_mask(ids.to(kind), labels)
    assert read_mask(file, Coding(labels)).long().equal(ids)
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == "PNG"
        if classes <= 256:
            assert np.array(image.convert("RGB"))[0].tolist() == [list(colour) for colour in labels.palette()]


@pytest.mark.parametrize(
    ("size", "written"),
    [
        ((66_000, 4), (65_500, 4)),
        ((40, 131_000), (20, 65_500)),
        ((200_000, 1), (65_500, 1)),
        ((65_500, 2), (65_500, 2)),
        ((60, 40), (60, 40)),
    ],
)
def test_encoded_drawing__is_as_large_as_the_format_allows(size, written):
    width, height = size
    with Image.open(io.BytesIO(encoded_drawing(torch.full((3, height, width), 7, dtype=torch.uint8)))) as image:
        assert (image.format, image.size) == ("JPEG", written)


def test_files__line_by_line(tmp_path):
    files = PredictionFiles(tmp_path / "new/out", {"task": "segmentation"})
    files.add(Content({"picture": "/deep/x.png"}, b"mask"), "deep/x.png")
    assert json.loads((tmp_path / "new/out/predictions.jsonl").read_text()) == {
        "picture": "/deep/x.png",
        "mask": "masks/deep/x.png",
    }
    assert (tmp_path / "new/out/masks/deep/x.png").read_bytes() == b"mask"
    files.close()


def test_files__names_are_given_once(tmp_path):
    files = PredictionFiles(tmp_path / "out", {})
    for name in ("a.png", "a.jpg", "A.jpg", "b/a.jpg", "a.jpg"):
        files.add(Content({"picture": name}, b""), name)
    files.close()
    lines = [json.loads(line)["mask"] for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert lines == ["masks/a.png", "masks/a.jpg.png", "masks/A.jpg-2.png", "masks/b/a.png", "masks/a.jpg-3.png"]


def test_files__lines_of_folders_without_a_name(tmp_path):
    files = PredictionFiles(tmp_path / "out", {})
    for name in (".", "/", "..", "."):
        files.add(Content({"picture": name, "error": "There are no pictures."}), name)
    files.close()
    assert len((tmp_path / "out/predictions.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("removed", range(5))
def test_files__beginning_anew_may_be_stopped_at_any_moment(tmp_path, monkeypatch, removed):
    files = PredictionFiles(tmp_path / "out", {})
    for name in ("a.png", "b.png", "c.png"):
        files.add(Content({"picture": name}, b"mask"), name)
    files.close()
    unlink, gone = Path.unlink, []

    def stops(path, missing_ok=False):
        if len(gone) == removed:
            raise OSError("stopped")
        unlink(path, missing_ok)
        gone.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stops)
        with pytest.raises(OutputError, match="stopped"):
            PredictionFiles(tmp_path / "out", {})
    PredictionFiles(tmp_path / "out", {}).close()
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == ["predictions.json", "predictions.jsonl"]


def test_resume__after_the_last_lines_were_lost_and_their_files_were_not(tmp_path):
    pictures = [f"{name}.png" for name in "abcd"]
    out = tmp_path / "out"
    files = PredictionFiles(out, {})
    for name in pictures:
        files.add(Content({"picture": name}, b"mask", b"overlay"), name)
    files.close()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for path in before:  # as whole files end
        path.write_bytes(before[path] + {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9"}.get(path.suffix, b""))
    listed = out / "predictions.jsonl"
    listed.write_text(listed.read_text().splitlines(keepends=True)[0])
    with pytest.raises(OutputError, match="holds other things"):
        PredictionFiles(out, {})
    again = PredictionFiles(out, {}, resume=True)
    assert [name for name in pictures if again.has(name)] == ["a.png"]
    for name in pictures[1:]:
        again.add(Content({"picture": name}, b"new mask", b"new overlay"), name)
    again.close()
    assert {path for path in out.rglob("*") if path.is_file()} == before.keys()
    assert [(out / f"masks/{name}").read_bytes()[:3] for name in pictures] == [b"mas", *[b"new"] * 3]
    assert [json.loads(line)["picture"] for line in listed.read_text().splitlines()] == pictures


@pytest.mark.parametrize("name", ["mine.png", "masks/mine.txt", "masks/mine.jpg", "overlays/deep/mine.png"])
def test_resume__leaves_what_others_put_beside_its_own(tmp_path, name):
    files = PredictionFiles(tmp_path / "out", {})
    files.add(Content({"picture": "a"}, b"mask"), "a.png")
    files.close()
    (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError, match="holds other things"):
        PredictionFiles(tmp_path / "out", {}, resume=True)
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_files__a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"could not be written: Not a directory. Choose another place."):
        PredictionFiles(tmp_path / "file/out", {})


def test_files__a_full_disk_is_told(tmp_path):
    resource = pytest.importorskip("resource")
    files = PredictionFiles(tmp_path / "out", {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the system ends the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"out could not be written: File too large. Make room; what was"):
            files.add(Content({"picture": "a"}, bytes(2000)), "a.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
