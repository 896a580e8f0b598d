"""`lumora train` and `lumora resume`: whole trainings, in this process and in others."""

import json
import os
import re
import signal
import subprocess

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.small_data import QUICK, write_classes
from tests.cli.terminal import PROGRAM, InTerminal, environment, started
from tests.training.small import NAMES

from lumora.bundle import load
from lumora.training import read_recipe
from lumora.training.schema.keys import keys

KEYS = {
    *("run", "ending", "reason", "signal", "resume", "bundle", "bundle_bytes", "report", "metric", "scores"),
    *("per_class", "epochs", "epochs_asked", "best_epoch", "seconds", "data", "task", "labels", "pictures", "base"),
    *("method", "trained_parameters", "parameters", "notes"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with pictures in `colours`."""
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "colours")
    return tmp_path


def weights(bundle):
    return load_file(bundle / "adapter_model.safetensors")


def trained(bundle):
    """How many of a bundle's values are parameters, and not statistics."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(tensor.numel() for name, tensor in weights(bundle).items() if not name.endswith(statistics))


def same(one, other):
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.slow
def test_train__tells_what_it_chose_and_what_it_came_to(lumora, here):
    ended = lumora("train", "colours", *QUICK)
    assert ended.code == 0, ended.err
    about = load(here / "runs/colours/bundle").about
    assert about.labels.names == tuple(sorted(NAMES))
    for text in (
        "colours",
        "12 to learn from, 3 for validation",
        "'blue', 'green', 'red'",
        "lumora/efficientnet-lite0",
    ):
        assert text in ended.err
    for text in (
        "adapters of rank 2 and the head",
        "2, with 4 pictures a step",
        "runs/colours/recipe.yaml",
        "--help-all",
    ):
        assert text in ended.err
    assert f"{trained(here / 'runs/colours/bundle'):,} of " in ended.err
    assert re.search(r"^before  accuracy 0\.\d{4}", ended.err, re.M)
    assert re.search(r"^epoch 2/2  loss \d\.\d{4}  accuracy \d\.\d{4}  0:00:\d\d", ended.err, re.M)
    assert f"accuracy:          {about.metrics['accuracy']:.4f} (" in ended.out
    assert "runs/colours/bundle (" in ended.out
    assert "lumora predict runs/colours/bundle PICTURES" in ended.out


@pytest.mark.slow
def test_train__result_as_json(lumora, here):
    ended = lumora("train", "colours", *QUICK, "--json", "--quiet", "--out", "here")
    assert ended.code == 0
    assert all(line.startswith("note: ") for line in ended.err.splitlines())
    value = json.loads(ended.out)
    assert value.keys() == KEYS
    about = load(here / "here/bundle").about
    assert value["scores"] == pytest.approx(about.metrics)
    assert (value["run"], value["bundle"], value["ending"]) == ("here", "here/bundle", "complete")
    assert value["bundle_bytes"] == sum(path.stat().st_size for path in (here / "here/bundle").rglob("*"))
    assert value["pictures"] == {"train": 12, "validation": 3}
    assert (value["metric"], value["epochs"], value["resume"], value["signal"]) == ("accuracy", 2, None, None)
    assert value["trained_parameters"] == trained(here / "here/bundle")


@pytest.mark.slow
def test_train__quiet_is_one_line(lumora, here):
    ended = lumora("train", "colours", *QUICK, "--quiet")
    assert ended.code == 0
    assert all(line.startswith("note: ") for line in ended.err.splitlines())
    assert re.fullmatch(r"accuracy \d\.\d{4}: runs/colours/bundle \(\d+\.\d [kM]B\)\n", ended.out)


@pytest.mark.slow
def test_train__by_an_earlier_recipe_goes_beside_it_and_comes_to_the_same(lumora, here):
    assert lumora("train", "colours", *QUICK).code == 0
    assert lumora("train", "runs/colours/recipe.yaml").code == 0
    assert same(here / "runs/colours/bundle", here / "runs/colours-2/bundle")
    ended = lumora("train", "colours", *QUICK, "--seed", 1)
    assert ended.code == 0
    assert not same(here / "runs/colours/bundle", here / "runs/colours-3/bundle")


@pytest.mark.slow
@pytest.mark.parametrize(("option", "method"), [("--full", "full"), ("--head-only", "head")])
def test_train__other_methods(lumora, here, option, method):
    quick = ["--epochs", 1, "--set", "train.batch_size=4", "--set", "pictures.size=32"]
    ended = lumora("train", "colours", *quick, option)
    assert ended.code == 0, ended.err
    assert load(here / "runs/colours/bundle").about.method == method


@pytest.mark.slow
def test_train__leaves_out_what_cannot_be_read_and_ends_in_time(lumora, here):
    (here / "colours/red/0.png").write_bytes(b"no picture")
    ended = lumora("train", "colours", *QUICK, "--skip-bad", "--quiet", "--max-time", "0.001s", "--json")
    assert ended.code == 0, ended.err
    assert "'red/0.png'" in ended.err
    assert json.loads(ended.out)["ending"] == "time"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument"),
        (["nowhere/at/all"], "There is no file or folder nowhere/at/all"),
        (["nowhere.yaml"], "There is no recipe nowhere.yaml"),
        (["colours", "--epochs", "0"], "--epochs"),
        (["colours", "--task", "regression"], "--task"),
        (["colours", "--set", "lora.rank=8"], "lora.r"),
        (["colours", "--set", "lora.r"], "key=value"),
        (["colours", "--set", "train.epochs=3", "--epochs", "3"], "train.epochs is said twice"),
        (["colours", "--full", "--head-only"], "give one of them"),
        (["colours", "--max-time", "soon"], "train.max_time"),
        (["colours", "--track", "post"], "run.track"),
        (["colours", "--out", "colours/run"], "within the data"),
        (["colours", "--set", "run.out=~/colours/run"], "within the data"),
        (["colours", "--out", "full"], "full is not empty"),
        (["colours", "--set", "run.out=~/full"], "full is not empty"),
        (["~nobody-is-called-so/colours"], "There is no file or folder ~nobody-is-called-so/colours"),
        (["."], "within the data"),
        (["earlier"], "lumora resume earlier"),
        (["earlier/recipe.yaml"], "names no data"),
    ],
)
def test_train__misuse_ends_with_2_before_anything_is_made(lumora, here, monkeypatch, arguments, words):
    monkeypatch.setenv("HOME", str(here))
    for name in ("full", "earlier"):
        (here / name).mkdir()
    (here / "full/mine.txt").write_text("mine")
    (here / "earlier/recipe.yaml").write_text("lora:\n  r: 8\n")
    before = sorted(here.rglob("*"))
    ended = lumora("train", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert words in " ".join(ended.err.split())
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "Missing argument"), (["colours"], "is no run"), (["nowhere"], "is no folder"), ([""], "")],
)
def test_resume__misuse_ends_with_2(lumora, here, arguments, words):
    ended = lumora("resume", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert words in " ".join(ended.err.split())


def test_train__help_fits_on_a_screen_and_help_all_has_the_rest():
    def shown(option):
        return subprocess.run(
            [*PROGRAM, "train", option], capture_output=True, text=True, env=environment(COLUMNS="80"), check=True
        ).stdout

    lines = shown("--help").splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) < 80
    assert {"--base", "--task", "--out", "--set", "--help-all"} <= set(" ".join(lines).split())
    everything = shown("--help-all")
    for text in ("--track NAME", "--layout NAME", "--labels FILE|NAMES", "--seed N", "--debug", *keys()):
        assert text in everything
    assert max(map(len, everything.splitlines())) < 80


@pytest.mark.parametrize("arguments", [["empty"], ["colours", "--task", "segmentation"]])
def test_train__data_that_cannot_be_used_end_with_1(lumora, here, arguments):
    (here / "empty").mkdir()
    ended = lumora("train", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert "error: " in ended.err
    assert not (here / "runs").exists()


# --- stopped ----------------------------------------------------------------------------------------------------------


def until(stream, text):
    """Read lines until one has this text; return all."""
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train__a_signal_saves_and_resume_comes_to_the_same(lumora, here, number, code):
    with started("train", "colours", *QUICK, "--epochs", 3, "--out", "stopped") as child:
        until(child.stderr, "epoch 1/3")
        child.send_signal(number)
        out, err = child.communicate()
    assert child.returncode == code, err
    assert "Traceback" not in err
    assert "go on with:        lumora resume stopped" in out
    assert not (here / "stopped/bundle").exists()
    assert lumora("train", "stopped/recipe.yaml", "--out", "whole").code == 0
    moved = here / "moved"
    (here / "colours").rename(moved)
    ended = lumora("resume", "stopped", "--data", moved, "--json")
    assert ended.code == 0, ended.err
    assert "goes on  after step " in ended.err
    assert json.loads(ended.out)["epochs"] == 3
    assert same(here / "stopped/bundle", here / "whole/bundle")


@pytest.mark.slow
def test_train__a_signal_as_json(here):
    with started("train", "colours", *QUICK, "--epochs", 3, "--json") as child:
        until(child.stderr, "epoch 1/3")
        child.terminate()
        out, _ = child.communicate()
    value = json.loads(out)
    assert child.returncode == 143
    assert (value["ending"], value["signal"], value["bundle"]) == ("asked", "SIGTERM", None)
    assert value["resume"] == "lumora resume runs/colours"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train__a_signal_before_the_first_step_ends_it_at_once(here, number, code):
    with started("train", "colours", *QUICK) as child:
        until(child.stderr, "looking at the data")
        child.send_signal(number)
        out, err = child.communicate()
    assert (child.returncode, out) == (code, "")
    assert "stopped: " in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_resume__of_a_run_that_is_done_changes_nothing(lumora, here):
    assert lumora("train", "colours", *QUICK).code == 0
    before = weights(here / "runs/colours/bundle")
    assert lumora("resume", "runs/colours").code == 0
    after = weights(here / "runs/colours/bundle")
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.slow
def test_train__a_failure_says_how_to_go_on(lumora, here):
    with started("train", "colours", *QUICK, "--epochs", 3, "--set", "run.live_samples=0") as child:
        until(child.stderr, "epoch 1/3")
        child.terminate()
        child.communicate()
    recipe = here / "runs/colours/recipe.yaml"
    assert read_recipe(recipe).lora.r == 2
    recipe.write_text(recipe.read_text().replace("r: 2", "r: 3"))
    ended = lumora("resume", "runs/colours")
    assert (ended.code, ended.out) == (1, "")
    assert "`lumora resume runs/colours`" in ended.err
    assert ended.err.splitlines()[-1].startswith("error: ")


# --- in a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_train__shows_in_a_terminal_how_it_goes(here):
    program = InTerminal("train", "colours", *QUICK)
    assert program.end() == 0, program.text
    # That it evaluates is shown too, but here it is done before the display is drawn anew: see test_progress.
    for text in ("looking at the data", "step ", "/6", " left", "loss ", "pictures/s", "memory", "MB"):
        assert text in program.text
    assert "epoch 2/2  loss " in program.text
    assert program.text.rindex("\x1b[?25h") > program.text.rindex("\x1b[?25l")  # the cursor is back
    assert "lumora predict runs/colours/bundle" in program.text[program.text.rindex("\x1b[?25h") :]


@pytest.mark.slow
def test_train__no_colour_and_no_display_where_they_are_not_wanted(here):
    program = InTerminal("train", "colours", *QUICK, NO_COLOR="1")
    assert program.end() == 0
    assert not re.search(r"\x1b\[(?!0m)[\d;]+m", program.text)
    program = InTerminal("train", "colours", *QUICK, TERM="dumb")
    assert program.end() == 0
    assert "\x1b" not in program.text


@pytest.mark.slow
def test_train__ctrl_c_in_a_terminal(here):
    program = InTerminal("train", "colours", *QUICK, "--epochs", 3, "--set", "run.workers=1")
    program.until("epoch 1/3")
    program.press(b"\x03")
    assert program.end() == 130
    assert "lumora resume runs/colours" in program.text
    assert "Traceback" not in program.text
    assert program.text.rindex("\x1b[?25h") > program.text.rindex("\x1b[?25l")


def test_environment__is_that_of_a_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "NO_COLOR" not in environment()
    assert environment(NO_COLOR="1")["NO_COLOR"] == "1"
    assert os.environ["NO_COLOR"] == "1"
