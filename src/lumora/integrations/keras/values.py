"""The values of Keras's variables as torch's tensors, and back. numpy has no `bfloat16` that torch would take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lumora.integrations.keras.library import keras, ops

_SHORT = "bfloat16"


def tensor_of(variable: Any) -> Tensor:
    """A copy of a variable's value, with its own precision."""
    is_short = keras.backend.standardize_dtype(variable.dtype) == _SHORT
    value = ops.cast(variable, "float32") if is_short else variable
    tensor = torch.from_numpy(np.array(ops.convert_to_numpy(value), order="C"))
    return tensor.to(torch.bfloat16) if is_short else tensor


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor's value as `assign` takes it."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def channels_last(pixels: Tensor) -> np.ndarray[Any, Any]:
    """Pictures (N, 3, H, W) of torch as Keras's models see them: (N, H, W, 3)."""
    return pixels.detach().cpu().permute(0, 2, 3, 1).contiguous().numpy()
