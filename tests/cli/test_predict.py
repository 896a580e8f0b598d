import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tests.bundle.making import LABELS
from tests.cli.predictions import lines_of
from tests.data.making import noise, put
from tests.predict.making import bundle_of, check

import lumora as library
from lumora.tasks import MaskPrediction


@pytest.fixture
def classifier(tmp_path):
    return bundle_of("vit", tmp_path)[0]


@pytest.fixture
def segmenter(tmp_path):
    return bundle_of("segformer", tmp_path)


@pytest.fixture
def given(tmp_path):
    """A folder with three pictures."""
    for i, name in enumerate(("a.png", "b.jpg", "deep/c.png")):
        put(tmp_path / "pictures" / name, noise(40 + 10 * i, 60, seed=i))
    return tmp_path / "pictures"


def files_in(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def test_predict__labels(lumora, classifier, given, tmp_path):
    ended = lumora("predict", classifier, given, "--out", tmp_path / "out", "--batch-size", 2)
    assert (ended.code, "note" in ended.err) == (0, False)
    assert "pictures:          3" in ended.out
    lines = lines_of(tmp_path / "out")
    assert [line["picture"] for line in lines] == [str(given / name) for name in ("a.png", "b.jpg", "deep/c.png")]
    for line in lines:
        assert set(line["probabilities"]) == set(LABELS)
        assert line["labels"] == [max(line["probabilities"], key=line["probabilities"].get)]
        with Image.open(tmp_path / "out" / line["overlay"]) as overlay:
            assert overlay.format == "JPEG"
    assert [line["overlay"] for line in lines] == ["overlays/a.jpg", "overlays/b.jpg", "overlays/deep/c.jpg"]
    about = json.loads((tmp_path / "out/predictions.json").read_text())
    assert (about["task"], about["labels"]) == ("classification", list(LABELS))


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--strength", 0.5], {"strength": 0.5}),
        (["--flip"], {"flip": True}),
        (["--strength", 0.25, "--flip"], {"strength": 0.25, "flip": True}),
    ],
)
def test_predict__strength_and_mirror_images(lumora, classifier, given, tmp_path, options, settings):
    assert lumora("predict", classifier, given, "--out", tmp_path / "out", *options).code == 0
    found = [line["probabilities"] for line in lines_of(tmp_path / "out")]
    others = [{}, *({name: value} for name, value in settings.items() if len(settings) > 1)]
    for wanted, same in ((settings, True), *((other, False) for other in others)):
        predictions = library.load(classifier, device="cpu", **wanted).predict(given)
        ours = [dict(zip(LABELS, one.probabilities.tolist(), strict=True)) for one in predictions]
        assert (found == [pytest.approx(one, abs=1e-5) for one in ours]) is same


def test_predict__masks(lumora, segmenter, given, tmp_path):
    bundle, model, about = segmenter
    ended = lumora("predict", bundle, given, "--out", tmp_path / "out", "--no-overlays")
    assert ended.code == 0
    assert not (tmp_path / "out/overlays").exists()
    for line in lines_of(tmp_path / "out"):
        with Image.open(tmp_path / "out" / line["mask"]) as image:
            assert (image.format, image.mode) == ("PNG", "P")
            assert image.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]
            ids = np.array(image)
        check(MaskPrediction(torch.from_numpy(ids)), model, about, line["picture"])
        assert {one["label"]: one["pixels"] for one in line["classes"]} == {
            LABELS[i]: int((ids == i).sum()) for i in np.unique(ids)
        }
    assert files_in(tmp_path / "out/masks") == ["a.png", "b.png", "deep/c.png"]


def test_predict__summary_as_json(lumora, segmenter, given, tmp_path):
    ended = lumora("predict", segmenter[0], given, "--out", tmp_path / "out", "--json")
    assert (ended.code, "note" in ended.err) == (0, False)
    value = json.loads(ended.out)
    seen = [one["label"] for line in lines_of(tmp_path / "out") for one in line["classes"]]
    assert value["labels"] == {name: seen.count(name) for name in LABELS if name in seen}
    assert (value["task"], value["pictures"], value["skipped"]) == ("segmentation", 3, [])
    assert value["out"] == str(tmp_path / "out")


def test_predict__pictures_that_cannot_be_read(lumora, classifier, given, tmp_path):
    (given / "a.png").write_bytes(b"")
    ended = lumora("predict", classifier, given, "--out", tmp_path / "out")
    assert ended.code == 1
    assert "error: 1 of 3 pictures cannot be used; mend them, or leave them out with --skip-bad." in ended.err
    assert "a.png is empty (0 bytes)" in ended.err
    bad, *good = lines_of(tmp_path / "out")
    assert set(bad) == {"picture", "error"}
    assert len(good) == 2
    assert all("labels" in line for line in good)
    ended = lumora("predict", classifier, given, "--out", tmp_path / "out", "--skip-bad", "--json")
    assert ended.code == 0
    assert "note: 1 of 3 pictures cannot be used; they were left out." in ended.err
    value = json.loads(ended.out)
    assert value["pictures"] == 2
    assert [one["picture"] for one in value["skipped"]] == [str(given / "a.png")]


def test_predict__each_picture_has_files_of_its_own(lumora, classifier, given, tmp_path):
    put(given / "a.webp")
    other = put(tmp_path / "other/A.png")
    ended = lumora("predict", classifier, given, other, given / "a.png", "--out", tmp_path / "out")
    assert ended.code == 0
    lines = lines_of(tmp_path / "out")
    assert [line["picture"] for line in lines].count(str(given / "a.png")) == 1
    overlays = [line["overlay"].casefold() for line in lines]
    assert len(set(overlays)) == len(lines) == 5
    assert len(files_in(tmp_path / "out/overlays")) == 5


def test_predict__again_replaces_what_it_wrote(lumora, classifier, segmenter, given, tmp_path):
    out = tmp_path / "out"
    assert lumora("predict", segmenter[0], given, "--out", out).code == 0
    assert len(files_in(out)) == 8
    with (out / "predictions.jsonl").open("a") as file:
        file.write('{"picture": "cut o')  # as when it was killed
    assert lumora("predict", segmenter[0], given / "deep", "--out", out, "--no-overlays").code == 0
    assert files_in(out) == ["masks/c.png", "predictions.json", "predictions.jsonl"]


@pytest.mark.parametrize("name", ["mine.txt", "masks/a.png", "overlays/deep/mine.jpg", "predictions.json"])
def test_predict__leaves_what_others_wrote(lumora, classifier, given, tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("{}")
    ended = lumora("predict", classifier, given, "--out", out)
    assert (ended.code, ended.out) == (2, "")
    assert "holds other things" in ended.told
    assert files_in(out) == [name]


def test_predict__leaves_what_others_put_beside_its_own(lumora, classifier, given, tmp_path):
    out = tmp_path / "out"
    assert lumora("predict", classifier, given, "--out", out).code == 0
    (out / "overlays/mine.jpg").write_text("mine")
    before = files_in(out)
    assert lumora("predict", classifier, given, "--out", out).code == 2
    assert files_in(out) == before


def test_predict__a_list_cannot_name_files_elsewhere(lumora, classifier, given, tmp_path):
    out = tmp_path / "out"
    assert lumora("predict", classifier, given, "--out", out).code == 0
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    with (out / "predictions.jsonl").open("a") as file:
        file.writelines(json.dumps({"mask": name}) + "\n" for name in ("../precious.txt", str(precious)))
    assert lumora("predict", classifier, given, "--out", out).code == 0
    assert precious.read_text() == "mine"


def test_predict__does_not_follow_links_out_of_its_folder(lumora, segmenter, given, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (out / "masks").symlink_to(elsewhere, target_is_directory=True)
    assert lumora("predict", segmenter[0], given, "--out", out).code == 2
    assert not any(elsewhere.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bundle"], "Missing argument 'PICTURES'"),
        (["bundle", "pictures"], "Missing option '--out'"),
        (["bundle", "pictures", "missing", "--out", "out"], "There is no file or folder missing."),
        (["bundle", "empty", "--out", "out"], "There are no pictures in empty: it has nothing"),
        (["bundle", "pictures", "--out", "pictures/out"], "lies within the pictures (pictures)"),
        (["bundle", "pictures", "--out", "pictures/a.png"], "is a file"),
        (["bundle", "pictures", "--out", "out", "--batch-size", "0"], "--batch-size"),
        (["bundle", "pictures", "--out", "out", "--device", "abacus"], "'abacus' cannot be used here"),
    ],
)
def test_predict__misuse_ends_with_2(lumora, classifier, given, monkeypatch, arguments, words):
    monkeypatch.chdir(given.parent)
    (given.parent / "empty").mkdir()
    ended = lumora("predict", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.told
    assert not (given.parent / "out").exists()


def test_predict__no_bundle_ends_with_1(lumora, given, tmp_path):
    ended = lumora("predict", given, given, "--out", tmp_path / "out")
    assert (ended.code, ended.out) == (1, "")
    assert "is no bundle: it has no lumora.json" in ended.err
    assert not (tmp_path / "out").exists()


def test_predict__a_base_that_moved_and_larger_pictures(lumora, classifier, given, tmp_path):
    (tmp_path / "base").rename(tmp_path / "moved")
    out = tmp_path / "out"
    assert lumora("predict", classifier, given, "--out", out).code == 1
    assert lumora("predict", classifier, given, "--out", out, "--base", tmp_path / "moved").code == 0
    ended = lumora("predict", classifier, given, "--out", out, "--base", tmp_path / "moved", "--max-pixels", 40 * 60)
    assert ended.code == 1
    assert "2 of 3 pictures" in ended.err


def test_predict__help_imports_nothing_heavy():
    program = (
        "import sys, atexit\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from lumora.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, "predict", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "--skip-bad" in done.stdout
