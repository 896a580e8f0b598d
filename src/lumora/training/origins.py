"""Where each value of a run's recipe comes from, in a file beside the recipe.

Chosen again on another day or machine, values might have other reasons.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from lumora.data.durable import write_file
from lumora.training.rules.base import How, Origin


def write_origins(origins: Mapping[str, Origin], path: Path) -> None:
    """Write them as JSON: for each key how its value was found, and why."""
    lines = [f"  {json.dumps(key)}: {json.dumps([origin.how, origin.why])}" for key, origin in origins.items()]
    write_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_origins(path: Path) -> dict[str, Origin]:
    """Read them again; whatever is no origin is left out. They are for people: nothing depends on them."""
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        str(key): Origin(value[0], value[1])
        for key, value in found.items()
        if isinstance(value, list) and len(value) == 2 and value[0] in get_args(How) and isinstance(value[1], str)
    }
