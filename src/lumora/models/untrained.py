"""A model as it was before anybody trained it."""

from __future__ import annotations

import math

from torch import nn

_SPREAD = 0.02
"""Of what is drawn for matrices and tokens of transformers, in standard deviations."""


def start_anew(model: nn.Module) -> None:
    """Draw all weights of a model anew, from torch's global generator; its structure stays.

    Convolutions are drawn so that the size of what flows through them stays the same (He et al., 2015, by fan-out), all
    that is multiplied otherwise from a narrow normal distribution; norms change nothing, biases are zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=_SPREAD)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        else:
            for parameter in module.parameters(recurse=False):
                if parameter.dim() > 1:
                    nn.init.trunc_normal_(parameter, std=_SPREAD)
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
