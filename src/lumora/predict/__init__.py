"""From a bundle to predictions: of one picture, of many, of folders and streams.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumora.predict.plain import plain as plain
    from lumora.predict.predictor import Prediction as Prediction
    from lumora.predict.predictor import Predictor as Predictor
    from lumora.predict.predictor import load as load

_HOMES = {
    "Prediction": "predictor",
    "Predictor": "predictor",
    "load": "predictor",
    "plain": "plain",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lumora.predict' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lumora.predict.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
