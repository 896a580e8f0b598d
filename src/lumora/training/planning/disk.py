"""How much room a training takes on disks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lumora.data.places import cache_home
from lumora.paths import at_home
from lumora.training.facts import Facts
from lumora.training.planning.changes import Changes
from lumora.training.recipe import Recipe
from lumora.training.rules.running import decoded_bytes
from lumora.training.surveying import free_disk

_CHECKPOINTS = 3
"""Two are kept; a third is written before the older one goes."""


@dataclass(frozen=True)
class Disk:
    """Bytes."""

    checkpoints: int
    """Of the run's checkpoints when they take the most."""
    bundle: int
    pictures: int
    """Decoded pictures that are kept on the disk."""
    base: int
    """The base's weights, where they have to be fetched first; about."""
    free: int
    """Where the run's folder will be."""
    free_for_pictures: int
    """Where decoded pictures are kept."""
    on_one: bool = False
    """Whether both are on one disk."""

    @property
    def run(self) -> int:
        """What the run's folder takes."""
        return self.checkpoints + self.bundle


def disk(recipe: Recipe, facts: Facts, changes: Changes, here: bool) -> Disk:
    """The room that a training by a recipe without gaps takes; `here` says whether the base's weights are."""
    assert recipe.run.out is not None
    run, pictures = at_home(recipe.run.out).absolute(), cache_home().absolute()
    return Disk(
        checkpoints=_CHECKPOINTS * changes.checkpoint_bytes,
        bundle=changes.bundle_bytes,
        pictures=kept_pictures(recipe, facts) if recipe.run.cache_on == "disk" else 0,
        base=0 if here else 4 * facts.base.parameters,
        free=free_disk(run),
        free_for_pictures=free_disk(pictures),
        on_one=_device(run) == _device(pictures),
    )


def _device(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev


def kept_pictures(recipe: Recipe, facts: Facts) -> int:
    """Bytes of the decoded pictures that are kept, wherever that is."""
    return min(recipe.run.cache_bytes, decoded_bytes(facts))
