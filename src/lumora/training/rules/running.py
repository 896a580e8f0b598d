"""Where and how a training runs when nothing is said."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lumora.training.facts import Facts
from lumora.training.rules.base import Choice, Choosing, Rule, always, default, detected
from lumora.training.schema.quantities import size_text

MEMORY_SHARE, DISK_SHARE = 4, 2
"""Decoded pictures take at most a quarter of the memory, or half of what is free on the disk."""
_STEP = 100_000_000


def out(known: Choosing) -> Choice:
    """A folder in `runs` that is called as the data are."""
    path = known["data.path"] or known.facts.task
    words = re.findall(r"[\w.-]+", re.split(r"[/\\]", path.rstrip("/\\"))[-1])
    name = "-".join(words).strip(".-") or known.facts.task
    return default(f"runs/{name}", "called as the data are")


def workers(known: Choosing) -> Choice:
    """A quarter of the cores, at most 4; beside a GPU all but one, at most 8."""
    machine = known.facts.machine
    cores = machine.cores // machine.processes
    each = "" if machine.processes == 1 else f" for each of {machine.processes} processes"
    if machine.device == "cuda":
        return detected(min(8, max(0, cores - 1)), f"{cores} cores beside a GPU{each}")
    return detected(min(4, cores // 4), f"{cores} cores{each}, which the training needs too")


def cache_on(known: Choosing) -> Choice:
    """The disk if all decoded pictures fit there and not in memory, else the memory."""
    needed = decoded_bytes(known.facts)
    if needed <= known.facts.machine.memory // MEMORY_SHARE:
        return detected("ram", "all decoded pictures fit")
    if needed <= known.facts.machine.disk // DISK_SHARE:
        return detected("disk", "memory has no room for all decoded pictures")
    return detected("ram", "neither memory nor disk has room for all decoded pictures")


def cache(known: Choosing) -> Choice:
    """Room for all decoded pictures, up to a quarter of the memory or half of what the disk has."""
    machine, needed = known.facts.machine, decoded_bytes(known.facts)
    place = known.asked.get("run.cache_on")
    rooms = {"ram": machine.memory // MEMORY_SHARE, "disk": machine.disk // DISK_SHARE}
    if any(needed <= room for name, room in rooms.items() if place in (None, name)):
        return detected(size_text(-(-needed // _STEP) * _STEP), "room for all decoded pictures")
    room = rooms[place or "ram"] // _STEP * _STEP
    return detected(size_text(room), "as much as there is room for; other pictures are decoded each time")


def decoded_bytes(facts: Facts) -> int:
    """Bytes of all pictures, and of masks, decoded."""
    height, width = facts.picture_size
    return (facts.pictures_train + facts.pictures_validation) * height * width * (4 if facts.segments else 3)


RULES: Mapping[str, Rule] = {
    "run.out": out,
    "run.workers": workers,
    "run.cache": cache,
    "run.cache_on": cache_on,
    "run.checkpoint_every": always(60.0, "at most a minute is lost"),
    "run.track": always((), "nobody else is told"),
    "run.live_samples": always(4, "a few, to see it learn"),
    "run.threads": always(None, "as torch chooses"),
}
