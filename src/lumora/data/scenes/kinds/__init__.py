"""The kinds of scenes: what stands where makes the kind, its colours do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lumora.data.scenes.kinds.coast import coast
from lumora.data.scenes.kinds.farmland import farmland
from lumora.data.scenes.kinds.forest import forest
from lumora.data.scenes.kinds.harbour import harbour
from lumora.data.scenes.kinds.lake import lake
from lumora.data.scenes.kinds.mountains import mountains
from lumora.data.scenes.kinds.river import river
from lumora.data.scenes.kinds.village import village
from lumora.data.scenes.stage import Stage


@dataclass(frozen=True)
class Kind:
    """How a kind of scene is painted, and from where it is seen."""

    paint: Callable[[Stage], None]
    horizon: tuple[float, float]
    """From how high to how low it may lie in the picture."""
    camera: tuple[float, float]
    """How many metres above the ground the eye may be."""


BY_NAME: Final = {
    "coast": Kind(coast, (0.3, 0.52), (3.0, 7.0)),
    "farmland": Kind(farmland, (0.3, 0.52), (3.0, 6.5)),
    "forest": Kind(forest, (0.36, 0.58), (3.5, 7.0)),
    "harbour": Kind(harbour, (0.28, 0.46), (5.5, 9.0)),
    "lake": Kind(lake, (0.35, 0.55), (3.0, 6.0)),
    "mountains": Kind(mountains, (0.45, 0.66), (3.0, 7.0)),
    "river": Kind(river, (0.3, 0.48), (4.0, 7.5)),
    "village": Kind(village, (0.34, 0.54), (3.0, 6.5)),
}
