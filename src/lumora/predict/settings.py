"""How a bundle predicts, where that is a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lumora.data.palettes import Palette


@dataclass(frozen=True)
class Settings:
    """What `lumora.load` can be asked for; each of these is explained there."""

    palette: Palette | None = None
    strength: float = 1.0
    flip: bool = False
    tile: int | Literal["auto"] | None = None
    overlap: int | None = None
