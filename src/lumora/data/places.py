"""Where Lumora keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from lumora.paths import at_home


def cache_home() -> Path:
    """`LUMORA_CACHE`, or `lumora` among the user's caches."""
    home = os.environ.get("LUMORA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lumora"
    return at_home(home)
