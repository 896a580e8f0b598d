"""The folder of what is tried for a plan."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest
from tests.cli.terminal import started
from tests.data.making import class_folders

from lumora.training.planning.place import own_place

IN_IT = """
import time
from lumora.training.planning.place import own_place
with own_place() as place:
    (place / "recipe.yaml").touch()
    print(place, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LUMORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_place__is_gone_afterwards(cache):
    with pytest.raises(KeyError), own_place() as place:
        (place / "recipe.yaml").touch()
        assert place.parent == cache
        raise KeyError
    assert list(cache.iterdir()) == []


def test_place__of_a_killed_program_is_removed_by_the_next(cache):
    with subprocess.Popen([sys.executable, "-c", IN_IT], stdout=subprocess.PIPE, text=True) as process:
        left = cache / process.stdout.readline().strip()
        with own_place():
            assert (left / "recipe.yaml").exists()  # it is still at work
        process.kill()
    assert left.exists()
    with own_place() as place:
        assert list(cache.iterdir()) == [place]


def test_place__that_was_just_made_is_left_alone(cache):
    (cache / "lumora-plan-new").mkdir(parents=True)
    with own_place():
        assert (cache / "lumora-plan-new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_plan__ended_by_a_signal_leaves_nothing_behind(cache, tmp_path, number):
    data = class_folders(tmp_path / "pets", each=6)
    process = started("plan", data, "--set", "train.batch_size=2", "--set", "pictures.size=32")
    hang = threading.Timer(200, process.kill)
    hang.start()
    while not list(cache.glob("lumora-plan-*/recipe.yaml")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate()
    hang.cancel()
    assert process.returncode == 128 + number, told
    assert "stopped: " in told
    assert "Traceback" not in told
    assert list(cache.glob("lumora-plan-*")) == []
