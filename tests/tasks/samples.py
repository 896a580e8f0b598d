"""Samples that are there without any file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class MadeSample:
    key: str = "made"
    target: int | tuple[int, ...] | None = None
    ids: Tensor | None = None
    path: Path | None = None

    def picture(self) -> Tensor:
        return torch.zeros(3, 8, 8, dtype=torch.uint8)

    def mask(self) -> Tensor | None:
        return self.ids
