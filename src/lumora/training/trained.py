"""What a training changes in a model: its trained parameters, and the statistics that batch norms gather."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lumora.errors import CheckpointError


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def statistics(model: nn.Module) -> list[Tensor]:
    """The means and variances that norms gather in training, of those that do so now."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase) and module.training]
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False) if buffer.is_floating_point()]


def changing_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Everything that a training changes: trained parameters, and statistics of norms that gather them in training.

    They are the model's own tensors, so that values can be put into them.
    """
    found: dict[str, Tensor] = {name: p.detach() for name, p in trained_parameters(model).items()}
    for path, module in model.named_modules():
        if isinstance(module, _NormBase) and module.training:
            for name, statistic in module.named_buffers(path, recurse=False):
                found[name] = statistic
    return found


@torch.no_grad()
def put(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into tensors of the same names; an error if they are others."""
    if tensors.keys() != values.keys():
        other = sorted(tensors.keys() ^ values.keys())
        raise CheckpointError(
            f"The checkpoint holds {len(values)} tensors and the model trains {len(tensors)}; {other[0]!r} is in one "
            "of them only. It belongs to another recipe: start a new run."
        )
    for name, tensor in tensors.items():
        if tensor.shape != values[name].shape:
            raise CheckpointError(
                f"{name} is {tuple(values[name].shape)} in the checkpoint and {tuple(tensor.shape)} in the model. It "
                "belongs to another recipe: start a new run."
            )
        tensor.copy_(values[name])
