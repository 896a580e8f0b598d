"""How much memory this process and those that it started hold, as the system counts it."""

from __future__ import annotations

import multiprocessing
import re
import sys
from pathlib import Path


def most_held() -> int | None:
    """The most bytes that this process held at once since it began; None where the system does not tell."""
    if (held := _status("VmHWM")) is not None:
        return held
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def held_now() -> int | None:
    """The bytes that this process holds now; None where the system does not tell."""
    return _status("VmRSS")


def mapped_from_memory() -> int:
    """Those of the held bytes that are files kept in memory, which other processes may hold too."""
    return _status("RssShmem") or 0


def of_readers() -> int:
    """Bytes that the processes started by this one have for themselves, as far as the system tells."""
    return sum(_own(child.pid) for child in multiprocessing.active_children())


def _own(process: int | None) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(kilobytes) * 1024 for kilobytes in re.findall(r"^Private_\w+:\s+(\d+) kB$", text, re.MULTILINE))


def _status(name: str) -> int | None:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024
