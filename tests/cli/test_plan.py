import json
import os
import subprocess
import sys

import pytest
from tests.data.making import class_folders, noise, put
from tests.tiny_models import save_vit

from lumora.training import plan, read_recipe, write_recipe

QUICK = ("--set", "train.batch_size=2", "--set", "pictures.size=32")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return class_folders(tmp_path / "pets", each=6)


def told(ended):
    return " ".join(ended.err.replace("│", " ").split())


def test_plan__says_what_was_found_what_changes_and_why(lumora, data, tmp_path):
    ended = lumora("plan", data, "--no-probe", "--epochs", 3, *QUICK)
    assert ended.code == 0
    assert "data:              " + str(data) in ended.out
    assert "read as:           classification from" in ended.out
    assert "labels:            2: cat, dog" in ended.out
    assert "base:              lumora/efficientnet-lite0" in ended.out
    assert "licence:           apache-2.0" in ended.out
    lines = [line.split() for line in ended.out.splitlines()]
    [adapted] = [words for words in lines if words[:1] == ["blocks.*.*.conv_pw"]]
    assert adapted[1:3] == ["conv2d", "8"]
    [head] = [words for words in lines if words[:1] == ["classifier"]]
    assert head[1:3] == ["saved", "whole"]
    assert ["train.epochs", "3", "asked", "asked", "for"] in lines
    [rank] = [words for words in lines if words[:1] == ["lora.r"]]
    assert rank[:3] == ["lora.r", "8", "detected"]
    assert "fewer than 2,000" in " ".join(rank)
    assert "memory:" not in ended.out
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]


def test_plan__as_json(lumora, data):
    ended = lumora("plan", data, "--no-probe", "--json", *QUICK)
    value = json.loads(ended.out)
    settings = {"train.batch_size": 2, "pictures.size": 32}
    assert value["recipe"] == json.loads(json.dumps(plan(data, settings=settings, probe=False).as_dict()))["recipe"]
    assert value["data"]["splits"]["train"] + value["data"]["splits"]["validation"] == 12
    assert value["choices"]["lora.r"]["how"] == "detected"
    assert value["changes"]["bundle_bytes"] == sum(group["bytes"] for group in value["changes"]["groups"])
    assert (value["memory"], value["time"], value["failed"]) == (None, None, None)
    assert value["course"]["steps"] == value["course"]["epochs"] * value["course"]["steps_in_epoch"]


@pytest.mark.parametrize(("option", "method"), [("--full", "full"), ("--head-only", "head")])
def test_plan__of_other_methods(lumora, data, option, method):
    value = json.loads(lumora("plan", data, "--no-probe", "--json", option, *QUICK).out)
    assert value["recipe"]["train"]["method"] == method
    whole = value["changes"]["trained"] == value["changes"]["parameters"]
    assert whole == (method == "full")


def test_plan__of_a_recipe(lumora, data, tmp_path):
    write_recipe(plan(data, settings={"lora.r": 3, "pictures.size": 32}, probe=False).recipe, tmp_path / "recipe.yaml")
    value = json.loads(lumora("plan", "recipe.yaml", "--no-probe", "--json", "--set", "lora.dora=true").out)
    expected = read_recipe(tmp_path / "recipe.yaml")
    assert value["recipe"]["lora"] == {**expected.lora.model_dump(), "dora": True}
    assert {group["rank"] for group in value["changes"]["groups"]} == {3, None}


def test_plan__tells_all_mistakes_at_once_and_what_was_meant(lumora, data):
    wrong = ("lora.rank=8", "learning_rate=1e-3", "train.warmup=10", "lora.r=many")
    ended = lumora("plan", data, *(word for setting in wrong for word in ("--set", setting)))
    assert (ended.code, ended.out) == (2, "")
    text = told(ended)
    assert "for 4 reasons" in text
    assert "there is no lora.rank; did you mean lora.r?" in text
    assert "there is no learning_rate; did you mean train.rate?" in text
    assert "train.warmup is 10; it must be a number of at least 0 and below 1" in text
    assert "lora.r is 'many'; it must be a whole number" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["./nowhere"], "nowhere"),
        (["pets", "--full", "--head-only"], "--head-only"),
        (["pets", "--epochs", "3", "--set", "train.epochs=4"], "train.epochs"),
        (["pets", "--set", "train.batch_size=500"], "there are"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_plan__misuse_ends_with_2(lumora, data, arguments, words):
    ended = lumora("plan", *arguments, "--no-probe")
    assert (ended.code, ended.out) == (2, "")
    assert words in told(ended)


def test_plan__of_a_misspelt_name_offline_says_which_is_near(lumora, data, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, near in (("pest", "pets"), ("pets/cats", "pets/cat")):
        ended = lumora("plan", name, "--no-probe")
        assert (ended.code, ended.out) == (2, "")
        assert f"Did you mean {near}?" in told(ended)
    ended = lumora("plan", "user/pets", "--no-probe")  # nothing but a name on the Hub
    assert ended.code == 1
    assert "the Hub cannot be reached to look for a dataset of that name" in told(ended)


def test_plan__warns_of_what_is_needed_and_not_of_what_is_allowed(lumora, data):
    assert "warning" not in lumora("plan", data, "--no-probe", "--set", "run.cache=900TB", *QUICK).err


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="mounts a small disk")
def test_plan__warns_where_the_disk_does_not_suffice(lumora, data, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small]).returncode:
        pytest.skip("cannot mount a small disk")
    try:
        ended = lumora("plan", data, "--no-probe", "--full", "--set", f"run.out={small / 'run'}", *QUICK)
    finally:
        subprocess.run(["umount", small], check=True)
    assert ended.code == 0
    assert f"and 2.1 MB are free in {small / 'run'}. Name a folder on another disk (run.out)" in told(ended)


@pytest.mark.slow
def test_plan__measures_memory_and_time(lumora, data, tmp_path):
    ended = lumora("plan", data, "--base", save_vit(tmp_path / "vit", 0), *QUICK)
    assert (ended.code, "error" in ended.err) == (0, False)
    [memory] = [line for line in ended.out.splitlines() if line.startswith("memory:")]
    assert "the training itself" in memory
    [time] = [line for line in ended.out.splitlines() if line.startswith("time:")]
    assert "a step" in time
    assert "fingerprint:       sha256:" in ended.out


@pytest.mark.slow
def test_plan__of_a_training_that_cannot_be_done_ends_with_1(lumora, tmp_path):
    data = class_folders(tmp_path / "pets", each=3, splits=("train", "validation"))
    (data / "train/cat/broken.png").write_bytes(put(tmp_path / "x.png", noise()).read_bytes()[:60])
    ended = lumora("plan", data, "--set", "train.batch_size=7", "--set", "pictures.size=32")
    assert ended.code == 1
    assert "broken.png" in ended.err
    assert "What it costs" in ended.out


def test_plan__help_imports_nothing_heavy():
    program = (
        "import sys, atexit\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from lumora.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, "plan", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "--no-probe" in done.stdout
