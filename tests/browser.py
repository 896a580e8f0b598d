"""A real browser without a window, spoken to by its own protocol over two pipes: no driver, no network."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def program() -> str:
    """The browser's program; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no browser: apt-get install chromium")
    return found


class Browser:
    """One page in a browser, and everything that it asks for and complains about."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        """Errors and warnings of the console, and uncaught exceptions."""
        self.requests: list[str] = []
        """The addresses of everything that was asked for, of files, of the network and of the page itself."""
        # The browser's own processes end a little later than it does, and may still write there.
        self._home = tempfile.TemporaryDirectory(prefix="lumora-browser-", ignore_cleanup_errors=True)
        self._process, self._to, self._from = _started(Path(self._home.name))
        self._number, self._rest, self._session = 0, b"", None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._home.cleanup()

    def open(self, page: Path, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Show a file in a window of this size."""
        self.visit(page.resolve().as_uri(), width, height, dark=dark)

    def visit(self, address: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Show what is at an address in a window of this size."""
        self.complaints.clear()
        self.requests.clear()
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        answer = self._ask("Page.navigate", url=address)
        assert "errorText" not in answer, f"{address}: {answer['errorText']}"
        self.run("new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))")

    def resize(self, width: int, height: int) -> None:
        """Make the window another size; up to 600 pixels it is a telephone's."""
        phone = width <= 600
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def run(self, code: str) -> Any:
        """What a line of JavaScript in the page gives."""
        found = self._ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, to: Path, *, whole: bool = True) -> None:
        """Write what is to be seen, the whole page or the window, as a PNG file."""
        shot = self._ask("Page.captureScreenshot", captureBeyondViewport=whole)
        to.write_bytes(base64.b64decode(shot["data"]))

    # --- the protocol -------------------------------------------------------------------------------------------------

    def _ask(self, method: str, **values: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._heard(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            some = os.read(self._from, 1 << 20)
            assert some, "the browser has gone"
            self._rest += some
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _heard(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(values["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(str(values["exceptionDetails"]))
            case "Log.entryAdded":
                self.complaints.append(values["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])


def _started(home: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """The browser, where to write to it, and where to read what it says: its files 3 and 4."""
    its_input, ours = os.pipe()
    theirs, its_output = os.pipe()
    # Away from 3 and 4, which they are to become.
    its_input, its_output = (fcntl.fcntl(file, fcntl.F_DUPFD, 10) for file in (its_input, its_output))

    def connect() -> None:
        os.dup2(its_input, 3)
        os.dup2(its_output, 4)

    command = [program(), *QUIET, f"--user-data-dir={home}", "about:blank"]
    process = subprocess.Popen(
        command, close_fds=False, preexec_fn=connect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(its_input)
    os.close(its_output)
    return process, ours, theirs
