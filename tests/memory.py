"""How much memory a program takes."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path


def most_held(*command: object) -> int:
    """Run a program to its end; return the most bytes that it held at once, looked at two hundred times a second.

    What it holds of files does not count, as it does in the system's own record: pages of libraries come and go,
    tens of megabytes from one run to the next. So do heaps of threads; it has one.
    """
    most = 0
    with tempfile.TemporaryFile("w+") as told:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, stderr=told)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8", errors="replace")
            if found := re.search(r"RssAnon:\s+(\d+) kB", status):
                most = max(most, int(found[1]) * 1024)
            time.sleep(0.005)
        told.seek(0)
        assert process.returncode == 0, told.read()
    return most
