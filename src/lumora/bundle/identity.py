"""Whether two bundles give the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lumora.bundle import names


def identity(home: Path) -> str:
    """A text that is the same for copies of a bundle, and another for any other one.

    It is made of what the bundle says of itself and of its proof: what its model gives. Both files are small.

    Args:
        home: the bundle's folder, as `lumora.bundle.locating.bundle_folder` finds it.
    """
    made = hashlib.sha256()
    for name in (names.ABOUT, names.PROOF):
        content = (home / name).read_bytes()
        made.update(len(content).to_bytes(8, "big") + content)
    return f"sha256:{made.hexdigest()}"
