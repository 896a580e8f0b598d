"""What is written into a pipe is plain text, whatever it says."""

import os
from pathlib import Path

import pytest
from tests.cli.bundles import run
from tests.training.tiny import save_pictures

pytestmark = pytest.mark.slow  # each command is a new process

ROOT = Path(__file__).parents[2]
QUICK = ("--base", "python:tests.training.tiny:sees", "--epochs", "1", "--set", "pictures.size=32", "--set", "lora.r=2")


def test_commands__write_no_colours_into_pipes(tmp_path):
    data = save_pictures(tmp_path) / "classes"
    (data / "red" / "broken.png").write_bytes(b"no picture")
    for code, *command in (
        (1, "doctor", data),
        (1, "train", data, "--out", tmp_path / "refused", *QUICK),
        (2, "trian", data),
        (0, "plan", data, "--skip-bad", *QUICK),
        (0, "train", data, "--skip-bad", "--out", tmp_path / "run", *QUICK),
        (1, "predict", tmp_path / "run/bundle", data, "--out", tmp_path / "said", *QUICK[:2]),
        (0, "inspect", tmp_path / "run/bundle"),
    ):
        ended = run(*command, code=code, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        assert ended.stdout + ended.stderr != "", command
        assert "\x1b" not in ended.stdout + ended.stderr, command
