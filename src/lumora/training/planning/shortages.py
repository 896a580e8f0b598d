"""Whether memory and disks suffice, and which setting to change where they do not."""

from __future__ import annotations

from collections.abc import Iterator

from lumora.training.facts import Machine
from lumora.training.planning.disk import Disk
from lumora.training.planning.forecast import Memory
from lumora.training.recipe import Recipe
from lumora.training.schema.quantities import OFF


def shortages(recipe: Recipe, machine: Machine, disk: Disk, memory: Memory | None) -> list[str]:
    """A sentence for everything that there is too little of."""
    found = [*_disk(recipe, disk)]
    if memory is not None:
        found += [*_memory(recipe, machine, memory), *_device(recipe, machine, memory)]
    return found


def _memory(recipe: Recipe, machine: Machine, memory: Memory) -> Iterator[str]:
    if memory.whole <= machine.memory:
        return
    told = f"The training needs {_size(memory.whole)} of memory, and {_size(machine.memory)} are free. "
    if memory.whole - memory.pictures <= machine.memory:
        yield told + f"Keep decoded pictures elsewhere: run.cache_on=disk, or run.cache={OFF}."
    elif memory.whole - memory.readers <= machine.memory:
        yield told + "Take fewer processes to read pictures: run.workers=0."
    else:
        yield told + _smaller(recipe)


def _device(recipe: Recipe, machine: Machine, memory: Memory) -> Iterator[str]:
    needed, there = memory.device, machine.device_memory
    if needed is not None and there is not None and needed > there:
        yield f"The training needs {_size(needed)} of the GPU's memory, which has {_size(there)}. {_smaller(recipe)}"


def _smaller(recipe: Recipe) -> str:
    """What makes the steps themselves smaller, the least harmful first."""
    part = recipe.train.micro_batch or recipe.train.batch_size or 1
    if part > 1:
        return f"Compute fewer pictures at once: train.micro_batch={_half(recipe.train.batch_size or part, part)}."
    if not recipe.train.grad_checkpointing and recipe.train.method != "head":
        return "Compute parts twice instead of remembering them: train.grad_checkpointing=true."
    return "Take smaller pictures (pictures.size), or a smaller base."


def _half(batch: int, part: int) -> int:
    """The largest part of a batch that is at most half as large."""
    return max(n for n in range(1, part // 2 + 1) if batch % n == 0)


def _disk(recipe: Recipe, disk: Disk) -> Iterator[str]:
    if disk.run > disk.free:
        yield (
            f"The run's folder takes up to {_size(disk.run)}, and {_size(disk.free)} are free in {recipe.run.out}. "
            "Name a folder on another disk (run.out), or make room."
        )
    elif disk.pictures + (disk.run if disk.on_one else 0) > disk.free_for_pictures:
        beside = f" beside the run's folder, which takes {_size(disk.run)}" if disk.on_one else ""
        yield (
            f"Decoded pictures take up to {_size(disk.pictures)} on the disk{beside}, and "
            f"{_size(disk.free_for_pictures)} are free. Take less room (run.cache), or none (run.cache={OFF})."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
