"""A Keras model where a torch module is expected: pictures go in channels first, logits come out so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lumora.errors import MetricError, UnknownAdapterError
from lumora.integrations.keras.applying import is_adapted, set_strength
from lumora.integrations.keras.library import Array, Model, check_channels_last, keras
from lumora.integrations.keras.logits import check_gives_logits
from lumora.integrations.keras.values import channels_last


class InTorch(nn.Module):
    """What Lumora's tasks, metrics, proofs and predictors call in a model's place. It computes on Keras's backend.

    Args:
        model: the Keras model. It must give logits, not probabilities.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        check_gives_logits(model)
        # In a tuple: with torch as Keras's backend the model is a module, too, and its weights would become ours.
        self._kept = (model,)
        # Holds nothing; what compares outputs sees by it how long the numbers are that the model computes with.
        self.register_buffer("precision", torch.zeros(0, dtype=_precision(model)), persistent=False)

    @property
    def keras_model(self) -> Model:
        """The model inside."""
        return self._kept[0]

    @property
    def active_adapters(self) -> list[str]:
        """The one adapter that a Keras model can have, under the name that it has in torch."""
        return ["default"] if is_adapted(self.keras_model) else []

    def set_strength(self, adapter: str, strength: float) -> None:
        """Let the adapter count so many times as much as it was trained to."""
        if adapter not in self.active_adapters:
            raise UnknownAdapterError(f"There is no adapter {adapter!r}; there is {self.active_adapters or 'none'}.")
        set_strength(self.keras_model, strength)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (N, K) or (N, K, h, w) of pictures (N, 3, H, W), on the CPU."""
        return logits_from(self.keras_model, channels_last(pixel_values))


def logits_from(model: Model, pixels: Array) -> Tensor:
    """The logits of a model for pictures (N, H, W, 3), as a task wants them: (N, K) or (N, K, h, w), on the CPU."""
    check_channels_last()
    # Not the model's own: KerasHub's applies its preprocessor, and these pictures are prepared already.
    given = keras.Model.predict_on_batch(model, np.asarray(pixels))
    # Under a MirroredStrategy every replica is given the whole batch, and their answers come one after the other.
    logits = torch.from_numpy(np.array(_logits_in(given)[: len(pixels)], dtype=np.float32))
    return logits.permute(0, 3, 1, 2) if logits.dim() == 4 else logits


def _precision(model: Model) -> torch.dtype:
    """The shortest numbers that a layer computes with."""
    computed = {layer.compute_dtype for layer in model._flatten_layers()}
    return next((getattr(torch, name) for name in ("bfloat16", "float16") if name in computed), torch.float32)


def _logits_in(given: Any) -> Any:
    """The logits among what a model returned."""
    if isinstance(given, dict):
        named = {key: value for key, value in given.items() if key == "logits"} or given
        if len(named) != 1:
            raise MetricError(
                f"The model returned {', '.join(map(repr, given))}, and none of them is called 'logits'. Call the "
                "logits so, or return them alone."
            )
        return next(iter(named.values()))
    return given[0] if isinstance(given, list | tuple) else given
