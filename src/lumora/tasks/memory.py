"""Telling whether memory did not suffice."""

from __future__ import annotations

import torch


def is_about_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, on an accelerator or on the CPU, whose allocator has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
