"""KerasHub's models can prepare pictures themselves. Lumora's are prepared already, and would be so twice."""

from __future__ import annotations

import warnings

from lumora.errors import LumoraWarning, TrainingError
from lumora.integrations.keras.library import Model


def prepares_pictures(model: Model) -> bool:
    """Whether `fit`, `evaluate` and `predict` of a model change pictures before it sees them; calling it does not."""
    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is None:
        return False
    return getattr(preprocessor, "image_converter", preprocessor) is not None


def warn_of_preprocessor(model: Model) -> None:
    """Warn where a model prepares pictures itself."""
    if prepares_pictures(model):
        warnings.warn(f"{_found(model)}.", LumoraWarning, stacklevel=3)


def refuse_preprocessor(model: Model) -> None:
    """Raise where a model in `fit` learns from pictures that are not as it is measured and used."""
    if prepares_pictures(model):
        raise TrainingError(
            f"{_found(model)}. The model would learn from other pictures than it is measured with and its bundle "
            "predicts for."
        )


def _found(model: Model) -> str:
    return (
        f"{model.name} has a preprocessor, which KerasHub's fit, evaluate and predict apply to every picture. Those of "
        "Lumora's transforms are prepared already: model.preprocessor = None, or from_preset(..., preprocessor=None)"
    )
