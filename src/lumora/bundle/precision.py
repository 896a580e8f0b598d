"""Running a model in the full precision of its 32-bit numbers, so that other machines give the same."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision() -> Generator[None]:
    """Inside, neither a GPU nor a CPU shortens 32-bit numbers (TF32, bfloat16); afterwards as it was."""
    settings = _settings()
    were = [getattr(owner, name) for owner, name, _ in settings]
    try:
        for owner, name, full in settings:
            setattr(owner, name, full)
        yield
    finally:
        for (owner, name, _), value in zip(settings, were, strict=True):
            setattr(owner, name, value)


def _settings() -> list[tuple[Any, str, Any]]:
    """Where torch keeps it, under which name, and the value for full precision.

    Since 2.9 each kind of operation has a setting, and reading the older ones fails where somebody used the new ones.
    """
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
    places = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )
    return [(place, "fp32_precision", "ieee") for place in places]
