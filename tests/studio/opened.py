"""The studio as a process, and a real browser before it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from tests.browser import program

PROGRAM = Path(sys.executable).with_name("lumora")
PATIENCE = 120_000
"""Milliseconds that anything may take on a machine with much else to do."""

_STILL = """
() => !document.querySelector(".pending, .generating") && document.getAnimations().every(one =>
    one.playState != "running" || one.effect.getComputedTiming().endTime == Infinity)
"""

_LISTENING_IN = """
import os, sys

open(os.environ["HEARD"], "a").close()

def heard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open(os.environ["HEARD"], "a") as file:
            file.write(f"{event} {arguments[1] if event == 'socket.connect' else arguments[0]!r}\\n")

sys.addaudithook(heard)
"""
"""What notes every address that Python speaks with, in this process and in those that it starts."""


@dataclass
class Running:
    """A studio that runs."""

    address: str
    process: subprocess.Popen[str]
    heard: Path

    def spoken_with(self) -> list[str]:
        """The addresses beyond this machine that the studio and its trainings have spoken with."""
        lines = self.heard.read_text().splitlines()  # there as soon as it listens in
        here = re.compile(r"'127\.0\.0\.1'|'localhost'|socket\.connect '?/|socket\.connect b?'|'::1'")
        return [line for line in lines if not here.search(line)]

    def stop(self) -> int:
        """Ask it to end, and wait."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def a_studio(folder: Path) -> Iterator[Callable[..., Running]]:
    """What starts studios in a folder; they end with the block."""
    hooks = folder / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(_LISTENING_IN)
    heard = folder / "heard.txt"
    path = os.pathsep.join(filter(None, (str(hooks), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "HEARD": str(heard)}
    with ExitStack() as stack:

        def start(*arguments: object, **variables: str) -> Running:
            command = [PROGRAM, "studio", *map(str, arguments), "--no-open", "--port", "0", "--json"]
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stderr is not None
            said = list[str]()
            reader = Thread(target=said.extend, args=(process.stderr,), daemon=True)  # a full pipe would stop it
            reader.start()
            if not (line := process.stdout.readline()):
                reader.join()
                raise AssertionError("".join(said))
            told = json.loads(line)
            assert told.keys() == {"address", "runs"}
            return Running(told["address"], process, heard)

        yield start


@dataclass
class Page:
    """One page, as Playwright drives it."""

    browser: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    page: Any = None

    def open(self, address: str, width: int = 1440, *, dark: bool = False) -> Any:
        """Open an address in a window of this width; give Playwright's page."""
        if self.page is not None:
            self.page.context.close()
        scheme = "dark" if dark else "light"
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        self.page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.page.goto(address)
        self.page.get_by_role("tab").first.wait_for()
        return self.page

    def tab(self, name: str) -> None:
        """Go to a tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def elsewhere(self, address: str) -> list[str]:
        """What was asked for that is not from this address."""
        return [url for url in self.requests if not url.startswith((address, "data:", "blob:"))]

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


def still(page: Any) -> None:
    """Wait until nothing is answered and nothing moves any more on Playwright's page."""
    page.wait_for_function(_STILL)


@contextmanager
def a_page() -> Iterator[Page]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    chromium = program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield Page(browser)
        browser.close()
