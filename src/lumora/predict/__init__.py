"""From a bundle to predictions: of one picture, of many, of folders and streams.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

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

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
