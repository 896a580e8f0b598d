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

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._rows: dict[tuple[int, torch.device], dict[str, Tensor]] = {}

    def rows(self, x: Tensor, batch_dimension: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the input, and for every adapter the indices of its samples along the batch dimension.

        An input that holds one entry for the whole batch (a position embedding) is repeated for it; one that holds
        several entries for each sample (windows, flattened tokens) is understood to keep a sample's entries together.
        """
        count, size = len(self.names), x.shape[batch_dimension]
        if size == 1 and count > 1:
            x, size = x.expand(*(count if i == batch_dimension else -1 for i in range(x.dim()))), count
        if size % count or (size != count and x.dim() > 2 and count in x.shape[:2]):
            raise RoutingError(
                f"adapter_names has {count} entries, but an adapted layer sees an input of shape {tuple(x.shape)}, "
                "whose first dimension is no multiple of that or does not count samples. Give one name per sample, to "
                "a model whose layers keep the batch in front."
            )
        key = (size, x.device)
        if key not in self._rows:
            entries = [name for name in self.names for _ in range(size // count)]
            self._rows[key] = {
                name: torch.tensor([i for i, n in enumerate(entries) if n == name], device=x.device)
                for name in dict.fromkeys(entries)
                if name != BASE
            }
        return x, self._rows[key]


_current: ContextVar[Route | None] = ContextVar("lumora_route", default=None)


def current() -> Route | None:
    """The route that the running forward pass follows, if any."""
    return _current.get()


@contextmanager
def following(names: Sequence[str]) -> Generator[None]:
    """Route every adapted layer that runs inside by these names, one per sample."""
    token = _current.set(Route(names))
    try:
        yield
    finally:
        _current.reset(token)
