"""Measuring a training before it is done: a process of its own takes a few steps of it, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lumora.errors import TrainingError
from lumora.training.planning.place import own_place
from lumora.training.planning.probed import Probed
from lumora.training.recipe import Recipe, write_recipe

_SHOWN = 2000
_REFUSED = 3
"""How the process ends when the training cannot be done."""


def probe(recipe: Recipe) -> Probed:
    """Seconds and bytes of a training by a recipe without gaps.

    Costs what the training costs to begin, and then half a minute at most, or two steps. The base's weights are fetched
    if they are not here.
    """
    with own_place() as folder:
        write_recipe(recipe, folder / "recipe.yaml")
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "lumora.training.planning", str(folder)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if ended.returncode == 0:
            return Probed(**json.loads((folder / "probed.json").read_text(encoding="utf-8")))
    raise TrainingError(_reason(ended))


def _environment() -> dict[str, str]:
    """What can be imported here can be imported there."""
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}


def _reason(ended: subprocess.CompletedProcess[str]) -> str:
    if ended.returncode < 0:
        return (
            f"A few steps were tried, but the process was ended by signal {-ended.returncode}, probably because memory "
            "did not suffice. Take a smaller train.micro_batch, smaller pictures (pictures.size) or a smaller base."
        )
    reason = ended.stdout if ended.returncode == _REFUSED else ended.stderr
    return f"A few steps were tried, but failed: {reason.strip()[-_SHOWN:]}"
