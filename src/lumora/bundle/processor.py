"""`preprocessor_config.json`: the same preprocessing for those who use transformers."""

from __future__ import annotations

from typing import Any

from lumora.bundle.about import About
from lumora.errors import LumoraError


def processor_values(about: About) -> dict[str, Any] | None:
    """The content of the file; None where transformers has no processor that does the same."""
    try:
        values = about.at_size.to_transformers()
    except LumoraError:
        return None
    if about.task == "segmentation":  # the processor that can also bring logits back to a picture's size
        values["image_processor_type"] = "SegformerImageProcessor"
        del values["do_center_crop"], values["crop_size"]
    return values
