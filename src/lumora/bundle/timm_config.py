"""Preprocessing in timm's words."""

from __future__ import annotations

import math
from typing import Any

from lumora.models import Preprocessing


def timm_values(prepared: Preprocessing) -> dict[str, Any]:
    """What a `pretrained_cfg` says, so that timm's transforms do the same.

    >>> values = timm_values(Preprocessing(resize=256, crop=(224, 224)))
    >>> values["crop_pct"], values["crop_mode"]
    (0.875, 'center')
    """
    height, width = prepared.usual_size
    portion, mode = 1.0, "squash"
    if prepared.crop is not None and prepared.resize is not None:
        resized = prepared.resize if isinstance(prepared.resize, int) else prepared.resize[0]
        portion, mode = height / resized, "center" if isinstance(prepared.resize, int) else "squash"
        if math.floor(height / portion) != resized:  # timm's way back, in numbers that are not exact
            portion = height / (resized + 0.001)
    return {
        "input_size": [3, height, width],
        "crop_pct": portion,
        "crop_mode": mode,
        "interpolation": prepared.interpolation,
        "mean": list(prepared.mean),
        "std": list(prepared.std),
    }
