"""From a bundle to predictions: of one picture, of many, of folders and streams.

Importing this package imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lumora import lazy

if TYPE_CHECKING:
    from lumora.predict.onnx_export import export_onnx as export_onnx
    from lumora.predict.plain_values import plain as plain
    from lumora.predict.predictor import Prediction as Prediction
    from lumora.predict.predictor import Predictor as Predictor
    from lumora.predict.predictor import load as load
    from lumora.predict.settings import Settings as Settings
    from lumora.predict.several import load_several as load_several

_HOMES = {
    "Prediction": "predictor",
    "Predictor": "predictor",
    "Settings": "settings",
    "export_onnx": "onnx_export",
    "load": "predictor",
    "load_several": "several",
    "plain": "plain_values",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

__getattr__, __dir__ = lazy.names(__name__, _HOMES)
