"""Several adapters in one batch: each sample says which adapter it goes through.

The choice travels beside the call, in a context variable, because it has to reach every adapted layer without
changing a single signature on the way.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from lumora.errors import RoutingError

BASE = "__base__"
"""The name that stands for "no adapter"."""


class Route:
    """Which adapter every sample of a batch goes through."""

    def __init__(self, names: Sequence[str], sequence_first: bool = False) -> None:
        self.names = tuple(names)
        self.sequence_first = sequence_first
        """Whether parts of the model work on (tokens, samples, ...)."""
        self._rows: dict[tuple[int, torch.device], dict[str, Tensor]] = {}

    def rows(self, x: Tensor, batch_dimension: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the input as `spread` does, and for every adapter the indices of its samples in the batch."""
        x, count = self.spread(x, batch_dimension), len(self.names)
        size = x.shape[batch_dimension]
        key = (size, x.device)
        if key not in self._rows:
            entries = [name for name in self.names for _ in range(size // count)]
            self._rows[key] = {
                name: torch.tensor([i for i, n in enumerate(entries) if n == name], device=x.device)
                for name in dict.fromkeys(entries)
                if name != BASE
            }
        return x, self._rows[key]

    def spread(self, x: Tensor, batch_dimension: int) -> Tensor:
        """Return the input with an entry for each sample, or several; an error where that is not sure.

        An input that holds one entry for the whole batch (a position embedding) is repeated for it; one that holds
        several entries for each sample (windows, flattened tokens) is understood to keep a sample's entries together.
        """
        count = len(self.names)
        if x.shape[batch_dimension] == 1 and count > 1 and x.dim() <= 3:
            x = x.expand(*(count if i == batch_dimension else -1 for i in range(x.dim())))
        if not self._counts_samples(x, batch_dimension):
            raise RoutingError(
                f"adapter_names has {count} entries, but an adapted layer sees an input of shape {tuple(x.shape)}, "
                f"whose dimension {batch_dimension} may not count samples. Give one name per sample, to a model whose "
                "layers keep the batch in front; or leave this layer out of what is adapted (exclude_modules)."
            )
        return x

    def _counts_samples(self, x: Tensor, batch_dimension: int) -> bool:
        """Whether a dimension surely counts samples, or several entries for each; a guess would be silently wrong."""
        count, size = len(self.names), x.shape[batch_dimension]
        if count == 1:
            return True
        if size % count or (x.dim() == 1 and x.is_floating_point()):
            return False
        if size == count:
            return not (self.sequence_first and batch_dimension == 0 and x.dim() == 3 and x.shape[1] == count)
        if not x.is_floating_point():  # indices: positions rather than several for each sample
            return False
        return not self.sequence_first if x.dim() == 2 else count not in x.shape[:2]


_current: ContextVar[Route | None] = ContextVar("lumora_route", default=None)


def current() -> Route | None:
    """The route that the running forward pass follows, if any."""
    return _current.get()


@contextmanager
def following(names: Sequence[str], sequence_first: bool = False) -> Generator[None]:
    """Route every adapted layer that runs inside by these names, one per sample."""
    token = _current.set(Route(names, sequence_first))
    try:
        yield
    finally:
        _current.reset(token)
