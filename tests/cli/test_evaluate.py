import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tests.bundle.making import LABELS
from tests.cli.bundles import run
from tests.predict.making import bundle_of
from tests.predict.test_evaluating import class_folders, mask_folders

import lumora as library
from lumora.data import open_source
from lumora.data.durable import check_folder
from lumora.training.whereabouts import note_place


@pytest.fixture
def classifier(tmp_path):
    return bundle_of("vit", tmp_path)[0]


@pytest.fixture
def segmenter(tmp_path):
    return bundle_of("segformer", tmp_path)[0]


@pytest.fixture
def data(tmp_path):
    return class_folders(tmp_path / "data")


@pytest.fixture
def masks(tmp_path):
    return mask_folders(tmp_path / "masked")


def files_in(out):
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def words(text):
    return " ".join(text.replace("│", " ").split())


def test_evaluate__finds_the_data_of_its_run_from_another_folder(lumora, classifier, data, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    classifier.rename(tmp_path / "run/bundle")
    monkeypatch.chdir(tmp_path)
    note_place("run", "data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    value = json.loads(lumora("evaluate", "../run/bundle", "data", "--json").out)
    assert (value["data"], value["pictures"]) == (str(data), 9)


def test_evaluate__counts_what_the_model_says(lumora, classifier, data):
    value = json.loads(lumora("evaluate", classifier, data, "--json").out)
    predictor = library.load(classifier, device="cpu")
    said = {
        path.relative_to(data).as_posix(): LABELS[predictor.predict(path).chosen[0]] for path in data.glob("test/*/*")
    }
    wrong = {key for key, name in said.items() if key.split("/")[1] != name}
    assert value["scores"]["accuracy"] == pytest.approx(1 - len(wrong) / 9)
    assert (value["pictures"], value["split"], value["task"], value["metric"]) == (
        9,
        "test",
        "classification",
        "accuracy",
    )
    assert {one["sample"] for one in value["worst"]} == wrong
    for one in value["worst"]:
        assert list(one["said"]) == [said[one["sample"]]]
        assert list(one["meant"]) == [one["sample"].split("/")[1]]
    wrongness = [one["wrongness"] for one in value["worst"]]
    assert wrongness == sorted(wrongness, reverse=True)
    assert value["recorded"] == {"accuracy": 0.875, "macro_f1": 0.5}
    assert (value["absent"], value["skipped"]) == ([], [])


def test_evaluate__shows_scores_classes_and_worst(lumora, classifier, data):
    ended = lumora("evaluate", classifier, data)
    assert ended.code == 0
    assert "note: Read as classification from class folders" in ended.err
    value = json.loads(lumora("evaluate", classifier, data, "--json").out)
    shown = words(ended.out)
    assert f"accuracy {value['scores']['accuracy']:.4f} 0.8750" in shown
    for name in LABELS:
        row = value["per_class"][name]
        assert f"{name} {row['precision']:.4f} {row['recall']:.4f}" in shown.replace("1 ", "1 ")
    first = value["worst"][0]
    assert f"{first['sample']}: labelled {next(iter(first['meant']))}" in shown


def test_evaluate__quiet_is_one_line(lumora, classifier, data):
    ended = lumora("evaluate", classifier, data, "--quiet")
    assert ended.code == 0
    assert "note" not in ended.err
    assert ended.out.startswith("accuracy 0.")
    assert ended.out.endswith(" on 9 pictures\n")


def test_evaluate__writes_scores_classes_and_drawings(lumora, classifier, data, tmp_path):
    out = tmp_path / "out"
    ended = lumora("evaluate", classifier, data, "--out", out, "--worst", 2, "--json")
    assert ended.code == 0
    value, told = json.loads((out / "metrics.json").read_text()), json.loads(ended.out)
    assert told["out"] == str(out)
    assert value["scores"] == told["scores"]
    drawings = [one["drawing"] for one in value["worst"]]
    assert len(drawings) == 2
    assert files_in(out) == sorted(["classes.csv", "manifest.json", "metrics.json", *drawings])
    for drawing in drawings:
        with Image.open(out / drawing) as image:
            assert image.format == "JPEG"
    with (out / "classes.csv").open() as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    assert {name: float(row["f1"]) for name, row in rows.items()} == {
        name: value["per_class"][name]["f1"] for name in LABELS
    }
    assert check_folder(out) == []


def test_evaluate__masks(lumora, segmenter, masks, tmp_path):
    ended = lumora("evaluate", segmenter, masks, "--out", tmp_path / "out", "--json")
    assert ended.code == 0
    value = json.loads(ended.out)
    assert (value["split"], value["metric"], value["pictures"]) == (None, "mean_iou", 4)
    predictor, right, counted = library.load(segmenter, device="cpu"), 0, 0
    ious = {}
    for sample in open_source(masks, validation=0.0).splits["train"]:
        said, meant = predictor.predict(sample).mask.numpy(), sample.mask().numpy()
        counts = meant != 255
        right, counted = right + (said == meant)[counts].sum(), counted + counts.sum()
        both = [((said == i) & (meant == i) & counts).sum() for i in range(3)]
        either = [(((said == i) | (meant == i)) & counts).sum() for i in range(3)]
        ious[sample.key] = np.mean([b / e for b, e in zip(both, either, strict=True) if e])
    assert value["scores"]["overall_accuracy"] == pytest.approx(right / counted, abs=1e-3)
    assert {one["sample"]: one["mean_iou"] for one in value["worst"]} == pytest.approx(ious, abs=1e-3)
    heights = {sample.key: sample.picture().shape[1:] for sample in open_source(masks, validation=0.0).splits["train"]}
    for one in value["worst"]:
        with Image.open(tmp_path / "out" / one["drawing"]) as image:
            height, width = heights[one["sample"]]
            assert image.height > height
            assert image.width >= 3 * width  # the picture, what was meant, what was said


@pytest.mark.slow
def test_evaluate__gives_the_scores_that_the_training_recorded(lumora, tmp_path):
    """In a process of its own, on the split that the training drew."""
    from lumora.data.scenes import write_scenes

    write_scenes(tmp_path / "all", 40, size=(40, 56))
    data = tmp_path / "scenes"
    data.mkdir()
    for path in (tmp_path / "all").glob("*/*/*.jpg"):  # no splits any more
        (data / path.parent.name).mkdir(exist_ok=True)
        path.rename(data / path.parent.name / f"{path.parent.parent.name}-{path.name}")
    quick = {"train.epochs": 1, "train.batch_size": 4, "pictures.size": 32, "lora.r": 2, "lora.targets": ["conv_pw"]}
    trained = library.finetune(data, out=tmp_path / "run", settings=quick | {"data.seed": 3, "data.validation": 0.4})
    value = json.loads(run("evaluate", trained.bundle, data, "--json").stdout)
    assert value["split"] == "validation"
    assert value["scores"] == pytest.approx(dict(trained.scores), abs=1e-6)
    assert value["scores"] == pytest.approx(value["recorded"], abs=1e-6)
    assert value["per_class"] == {name: pytest.approx(row, abs=1e-6) for name, row in trained.scores.per_class.items()}


def test_evaluate__samples_that_cannot_be_read(lumora, classifier, data, tmp_path):
    (data / "test/otter/1.png").write_bytes(b"")
    ended = lumora("evaluate", classifier, data, "--out", tmp_path / "out")
    assert (ended.code, ended.out) == (1, "")
    assert "error: 1 of 9 pictures cannot be used" in ended.err
    assert "--skip-bad" in ended.err
    assert not (tmp_path / "out").exists()
    ended = lumora("evaluate", classifier, data, "--skip-bad", "--json")
    assert ended.code == 0
    assert "note: 1 of 9 pictures cannot be used; they were left out." in ended.err
    value = json.loads(ended.out)
    assert (value["pictures"], [one["sample"] for one in value["skipped"]]) == (8, ["test/otter/1.png"])


def test_evaluate__classes_are_matched_by_name(lumora, classifier, data, tmp_path):
    plain = json.loads(lumora("evaluate", classifier, data, "--json").out)
    (data / "labels.txt").write_text("owl\notter\nred fox")
    turned = json.loads(lumora("evaluate", classifier, data, "--json").out)
    assert turned["scores"] == plain["scores"]
    assert turned["per_class"] == plain["per_class"]
    (data / "labels.txt").unlink()
    (data / "test/owl").rename(data / "test/wolf")
    ended = lumora("evaluate", classifier, data)
    assert (ended.code, ended.out) == (1, "")
    assert "1 class that the model does not know: 'wolf'" in ended.err
    ended = lumora("evaluate", classifier, data, "--leave-out-unknown")
    assert ended.code == 0
    assert "note: The model does not know 'wolf': 3 pictures were left out." in ended.err
    assert "note: No sample shows owl" in ended.err


def test_evaluate__what_masks_mean_can_be_said(lumora, segmenter, masks):
    plain = json.loads(lumora("evaluate", segmenter, masks, "--json").out)
    (masks / "labels.txt").unlink()
    ended = lumora("evaluate", segmenter, masks, "--labels", "owl,otter,red fox", "--json")
    other = json.loads(ended.out)
    assert (ended.code, other["scores"] == plain["scores"]) == (0, False)
    told = json.loads(lumora("evaluate", segmenter, masks, "--labels", ",".join(LABELS), "--json").out)
    assert told["scores"] == plain["scores"]


def test_evaluate__replaces_its_own_and_nothing_else(lumora, classifier, data, tmp_path):
    out = tmp_path / "out"
    assert lumora("evaluate", classifier, data, "--out", out).code == 0
    assert lumora("evaluate", classifier, data, "--out", out, "--worst", 0).code == 0
    assert files_in(out) == ["classes.csv", "manifest.json", "metrics.json"]
    (out / ".DS_Store").write_bytes(b"left by the system")
    assert lumora("evaluate", classifier, data, "--out", out, "--worst", 0).code == 0
    (out / "mine.txt").write_text("mine")
    assert lumora("evaluate", classifier, data, "--out", out).code == 2
    assert (out / "mine.txt").read_text() == "mine"
    before = files_in(classifier)
    ended = lumora("evaluate", classifier, data, "--out", classifier)
    assert (ended.code, files_in(classifier)) == (2, before)
    assert "holds other things" in words(ended.err)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bundle"], "Missing argument 'DATA'"),
        (["bundle", "./missing/deep"], "There is no file or folder ./missing/deep."),
        (["bundle", "dta"], "There is no file or folder 'dta' here"),
        (["bundle", "data", "--out", "data/out"], "is, or lies in, data"),
        (["bundle", "data", "--worst", "-1"], "--worst"),
        (["bundle", "data", "--column", "species"], "'species' is not ROLE=NAME"),
        (["bundle", "data", "--device", "abacus"], "'abacus' cannot be used here"),
    ],
)
def test_evaluate__misuse_ends_with_2(lumora, classifier, data, monkeypatch, arguments, told):
    monkeypatch.chdir(data.parent)
    ended = lumora("evaluate", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in words(ended.err)
    assert not (data / "out").exists()


def test_evaluate__splits(lumora, classifier, data):
    value = json.loads(lumora("evaluate", classifier, data, "--split", "train", "--json").out)
    assert {one["sample"].split("/")[0] for one in value["worst"]} == {"train"}
    ended = lumora("evaluate", classifier, data, "--split", "tset")
    assert (ended.code, "no split 'tset'" in ended.err) == (1, True)


def test_evaluate__help_imports_nothing_heavy():
    program = (
        "import sys, atexit\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'huggingface_hub'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from lumora.cli import main; main()"
    )
    for command in ("evaluate", "merge", "push", "pull"):
        done = subprocess.run([sys.executable, "-c", program, command, "--help"], capture_output=True, text=True)
        assert (done.returncode, done.stderr.strip()) == (0, "[]")
        assert "--json" in done.stdout
