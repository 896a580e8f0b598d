"""The moving average of what is trained: steadier than the last step's weights, and usually a little better."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """An exponential moving average of named tensors, kept in 32 bits beside them.

    It starts fast, as the mean of the first steps, and slows down to `decay`: where the training began is forgotten.

    >>> weight = torch.zeros(1)
    >>> average = Average({"weight": weight}, decay=0.9)
    >>> weight += 1
    >>> average.update(0)
    >>> average.values["weight"]
    tensor([0.9000])
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self._live = dict(tensors)
        self.values = {name: tensor.detach().float().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the tensors as they are after this step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in self._live.items():
            self.values[name].lerp_(tensor.detach().float(), 1 - decay)

    def start_anew(self) -> None:
        """Be what the tensors are now."""
        for name, tensor in self._live.items():
            self.values[name].copy_(tensor)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Let the averages be the weights until the end of the block."""
        kept = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._live.items():
            tensor.copy_(values[name])
