"""Python processes that begin at once: forked from one that has imported torch and others, and done nothing else.

They are what `subprocess.run([python, ...])` gives, but for the seconds that these imports take every time: processes
of their own, with environment, folder and streams of their own. Tests of the beginning itself start real ones.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

DEVNULL = subprocess.DEVNULL
_CAN = hasattr(os, "fork") and hasattr(socket, "send_fds")
_ALWAYS = ("torch", "torchvision", "scipy.optimize")
_OF_THE_HUB = ("transformers.modeling_utils", "transformers.models.auto", "transformers.image_processing_utils")
"""These read variables of the Hub when they are imported: not for processes to which other ones are given."""


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    check: bool = False,
    **how: Any,
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of a Python program, with its output captured as text: `[python, "-P", "-m", module, ...]`."""
    arguments = [str(argument) for argument in command]
    module = arguments.index("-m") + 1 if "-m" in arguments else 0
    if not _CAN or arguments[:module] != [sys.executable, "-P", "-m"]:
        return subprocess.run(arguments, env=env, cwd=cwd, check=check, **how)
    wish = {"arguments": arguments[module:], "env": dict(os.environ if env is None else env)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, socket.socket(socket.AF_UNIX) as server:
        server.connect(_server(_of_the_hub(wish["env"]) == _USUAL))
        socket.send_fds(server, [b"."], [out.fileno(), err.fileno()])
        server.sendall(json.dumps({**wish, "cwd": str(cwd or Path.cwd())}).encode() + b"\n")
        code = int(server.makefile().readline())
        said = [_text(file, how.get("encoding"), how.get("errors")) for file in (out, err)]
    done = subprocess.CompletedProcess(arguments, code, *said)
    if check:
        done.check_returncode()
    return done


def _text(file: Any, encoding: str | None, errors: str | None) -> str:
    file.seek(0)
    return file.read().decode(encoding or "utf-8", errors or "strict")


def _of_the_hub(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("HF_", "TRANSFORMERS_"))}


_USUAL = _of_the_hub(os.environ)


@cache
def _server(with_hub: bool) -> str:
    """The address of this process's server, which ends with it."""
    folder = tempfile.TemporaryDirectory()
    address = Path(folder.name, "server")
    modules = (*_ALWAYS, *_OF_THE_HUB) if with_hub else _ALWAYS
    others = os.environ.items() - _of_the_hub(os.environ).items()
    command = [sys.executable, "-P", __file__, address, *modules]
    process = subprocess.Popen(command, env=dict(others) | _USUAL, stdin=DEVNULL)

    def end() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    while not address.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return str(address)


# --- the server -------------------------------------------------------------------------------------------------------


def _serve(address: str, modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        Path(f"{address}.new").rename(address)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
        while True:
            asking, _ = listening.accept()
            if os.fork() == 0:
                break
            asking.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(asking, 1, 2)
    wish = json.loads(asking.makefile().readline())
    if child := os.fork():
        asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(0)
    asking.close()
    _become(streams, **wish)


def _become(streams: Sequence[int], arguments: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
    """Be the program that was asked for."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
