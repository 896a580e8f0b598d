"""Every example runs as a script, the way its first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Those of Keras have an environment of their own: tests/keras/test_example.py.
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py") if not path.stem.endswith("_keras"))
# These take models and data from the Hub when nothing is said; test_guides.py gives them small ones.
ONLINE = ("image_classification_lora.py", "semantic_segmentation.py", "semantic_segmentation_lora.py")


def run(script, *arguments, columns=80):
    environment = {**os.environ, "COLUMNS": str(columns), "HF_HUB_OFFLINE": "1"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize("script", [name for name in EXAMPLES if name not in ("engine.py", *ONLINE)])
def test_example__runs_to_its_end_and_says_nothing_on_stderr(script):
    result = run(script)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.parametrize("script", ONLINE)
def test_online_example__is_run_by_the_tests_of_the_guides(script):
    assert f'run("{script}"' in (ROOT / "tests/examples/test_guides.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_engine__runs_to_its_end_within_the_terminal():
    result = run("engine.py", columns=80)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    assert "…" not in result.stdout


@pytest.mark.slow
def test_engine__fails_when_one_bit_of_a_saved_adapter_differs():
    result = run("engine.py", "--tamper", columns=120)
    assert result.returncode == 1
    assert "DIFFERENT" in result.stdout
    assert "What was loaded is not what was saved." in result.stdout
