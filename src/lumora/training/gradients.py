"""One step of several processes: from what each has computed for its part of a batch to what the whole batch gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lumora.training.processes import Processes


@torch.no_grad()
def sum_over_processes(
    processes: Processes, parameters: Sequence[nn.Parameter], statistics: Sequence[Tensor], loss: float, count: int
) -> float:
    """Make the gradients, and the statistics of norms, those of the whole batch; return its loss.

    Gradients and losses are what each process adds to the whole; statistics are means, and weighed by the `count` of
    pictures that it has had. After the backward pass and not during it, as `DistributedDataParallel` does: adapters are
    small, and one that ran out of memory on the way can begin again.
    """
    reached = [float(parameter.grad is not None) for parameter in parameters]
    facts = torch.tensor([count, loss, *reached], dtype=torch.float64)
    processes.add([facts])
    whole, loss_sum, *reached = facts.tolist()
    for parameter, somewhere in zip(parameters, reached, strict=True):
        if somewhere and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for mean in statistics:
        mean *= count / whole
    processes.add([*(parameter.grad for parameter in parameters if parameter.grad is not None), *statistics])
    return loss_sum
