"""Locks that end with the process that took them, though others that it forked live on."""

import os
import signal
import sys

import pytest
from tests.processes import in_a_process

from lumora.data.locks import hold, is_held

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and kill")


def test_hold__is_alone_until_it_is_closed(tmp_path):
    path = tmp_path / "lock"
    held = hold(path)
    assert held
    assert is_held(path)
    assert hold(path) is None
    assert in_a_process(lambda: hold(path)) == "None"
    held.close()
    assert not is_held(path)
    with hold(path):
        assert in_a_process(lambda: is_held(path)) == "True"


def test_hold__of_a_killed_process_ends_though_its_workers_live(tmp_path):
    path = tmp_path / "lock"
    ready, told = os.pipe()
    pause, wake = os.pipe()
    if (child := os.fork()) == 0:
        lock = hold(path)
        worker = os.fork()
        if worker == 0:
            os.write(told, b"1" if lock.closed else b"0")
            os.read(pause, 1)
            os._exit(0)
        signal.pause()
    try:
        assert os.read(ready, 1) == b"1"
        assert is_held(path)  # that the worker closed it did not end it
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert not is_held(path)
    finally:
        os.write(wake, b"1")
