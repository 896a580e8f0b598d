"""How much memory this program has."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def memory_in_use() -> tuple[str, int] | None:
    """Which memory matters, and how many bytes of it this process has; None where the system does not say."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return "GPU", int(torch.cuda.memory_reserved())
    resident = _resident()
    return None if resident is None else ("memory", resident)


def _resident() -> int | None:
    """Bytes in main memory now; on macOS the most that there were."""
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
