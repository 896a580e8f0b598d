"""`python -m lumora.training.planning FOLDER`: the process that is measured.

It reads `recipe.yaml` in the folder, trains in small, and writes `probed.json` there; or it says what is wrong and ends
with 3.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from lumora.errors import LumoraError


def _main(folder: Path) -> int:
    began = time.monotonic()  # before what is slow to import
    import dataclasses

    from lumora.training.planning.probing import probe
    from lumora.training.recipe import read_recipe

    try:
        measured = probe(read_recipe(folder / "recipe.yaml"), folder, began)
    except LumoraError as error:
        sys.stdout.write(f"{error}\n")
        return 3
    (folder / "probed.json").write_text(json.dumps(dataclasses.asdict(measured)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
