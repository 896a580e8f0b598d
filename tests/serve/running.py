"""`lumora serve` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from tests.cli.bundles import PROGRAM

PATIENCE = 900.0
"""Seconds for anything to happen, on a machine that is busy with other things."""


class Running:
    """A server that runs, what it logs, and a client for it."""

    def __init__(
        self, *arguments: object, token: str | None = None, files: int | None = None, **environment: str
    ) -> None:
        self.log: list[dict[str, Any]] = []
        self.said: list[str] = []
        """What is no JSON."""
        self.process = subprocess.Popen(
            [
                *(() if files is None else ("prlimit", f"--nofile={files}")),
                PROGRAM,
                "serve",
                *map(str, arguments),
                "--port",
                "0",
                "--device",
                "cpu",
                "--decoders",
                "1",
                "--deadline",
                "600",
                "--json",
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self.port = self.logged("listening")["port"]
            self.logged("ready")
            assert self.process.stdout is not None
            self.told = json.loads(self.process.stdout.readline())
            """What it tells programs as soon as it listens."""
        except BaseException:
            self._end()
            raise
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._end()

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.said.append(line)

    def logged(self, message: str) -> dict[str, Any]:
        """The first line of the log with this message."""
        return until(lambda: next((line for line in list(self.log) if line["message"] == message), None), self)

    def logged_any(self, words: str) -> dict[str, Any]:
        """The first line of the log whose message has these words."""
        return until(lambda: next((line for line in list(self.log) if words in line["message"]), None), self)

    def told_to_end(self) -> None:
        """Send what systemd and Docker send."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """How the process ended."""
        return self.process.wait(PATIENCE)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = self.client.get("/metrics").text
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def children(self) -> list[int]:
        """The processes that it has started."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def until(found: Any, running: Running | None = None) -> Any:
    """What a function gives, as soon as it is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := found():
            return value
        if running is not None and running.process.poll() is not None:
            raise AssertionError(f"The server ended: {''.join(running.said)} {running.log[-5:]}")
        time.sleep(0.05)
    raise AssertionError(f"Nothing within {PATIENCE} seconds: {running.said if running else ''}")
