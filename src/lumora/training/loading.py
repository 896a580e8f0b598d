"""The loaders of a training: a process learns from its part of every batch, and is judged by its part of the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lumora.data import Cache, Loader, Pictures, Sample, Source
from lumora.data.places import cache_home
from lumora.data.transforms import Transform
from lumora.errors import RecipeError
from lumora.models import Preprocessing
from lumora.tasks.evaluating import usual_batch_size
from lumora.tasks.views import evaluation_view
from lumora.training.processes import Processes
from lumora.training.recipe import Recipe
from lumora.training.seeing import mixes, training_view


def loaders(
    recipe: Recipe,
    source: Source,
    preprocessing: Preprocessing,
    at_size: Preprocessing,
    device: torch.device,
    processes: Processes,
) -> tuple[Loader, Loader | None]:
    """Batches to learn from, and batches to be judged by if there are pictures for that; these are seen `at_size`."""
    batch_size, seed = recipe.train.batch_size, recipe.train.seed
    assert batch_size is not None and seed is not None
    _check_batch(batch_size, processes)
    cache = _cache(recipe, processes)
    workers = recipe.run.workers or 0

    def pictures(samples: Sequence[Sample], view: Transform) -> Pictures:
        return Pictures(samples, view, seed, cache, classes=len(source.labels))

    view = training_view(preprocessing, recipe.pictures, segments=source.task == "segmentation")
    loader = Loader(
        pictures(source.splits["train"], view),
        batch_size,
        workers=workers,
        device=device,
        mix=mixes(recipe.pictures.mix or "none", len(source.labels)),
        rank=processes.rank,
        world=processes.world,
    )
    if "validation" not in source.splits or not len(source.splits["validation"]):
        return loader, None
    mine = pictures(part_of(source.splits["validation"], processes), evaluation_view(at_size))
    at_once = usual_batch_size(source.task)
    return loader, Loader(mine, at_once, shuffle=False, workers=workers, device=device)


def part_of(samples: Sequence[Sample], processes: Processes) -> Sequence[Sample]:
    """Those that this process looks at where each is to be looked at once."""
    if processes.world == 1:
        return samples
    return [samples[i] for i in range(processes.rank, len(samples), processes.world)]


def _check_batch(batch_size: int, processes: Processes) -> None:
    if batch_size < processes.world:
        raise RecipeError(
            f"train.batch_size is {batch_size}, but there are {processes.world} processes, each of which needs a "
            f"picture of every batch. Take a larger train.batch_size, or start no more than {batch_size}."
        )


def _cache(recipe: Recipe, processes: Processes) -> Cache | None:
    """What is decoded, kept once on each machine."""
    run = recipe.run
    if not run.cache_bytes:
        return None
    made: list[Cache] = []

    def make() -> str:
        made.append(Cache(cache_home() / "pixels" if run.cache_on == "disk" else None, run.cache_bytes))
        return made[0].address()

    address = processes.from_first_here(make)
    return made[0] if made else Cache.at(address)
