"""Bases of libraries that Lumora's own packages do not know: whoever does registers how their bundles are loaded."""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any

from lumora.bundle.about import About
from lumora.errors import BundleError

GROUP = "lumora.bundles"
"""The group of entry points: a library's name, and a function that `lumora.bundle.reading.put_together` calls."""


def reader_of(library: str) -> Any:
    """What loads the bundles of a library's bases; None where nobody has registered anything."""
    found = [entry for entry in metadata.entry_points(group=GROUP) if entry.name == library]
    return found[0].load() if found else None


def check_in_torch(about: About, bundle: str | os.PathLike[str]) -> None:
    """Raise for a bundle of a Keras model, whose weights torch does not see."""
    if about.base.library == "keras":
        raise BundleError(
            f"{bundle} is a Keras bundle, and this works on torch models alone. For a model without adapters: "
            f"model = load_bundle({str(bundle)!r}), merge_lora(model), model.save('model.keras'), all from "
            "lumora.integrations.keras."
        )
