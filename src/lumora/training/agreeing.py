"""What the processes of a run must have in common before its first step, and how they come by it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager

import safetensors.torch

from lumora.data import Source
from lumora.errors import TrainingError
from lumora.training.checkpoints import Checkpoint, Found
from lumora.training.choosing import Chosen
from lumora.training.folder import RunFolder
from lumora.training.processes import Processes
from lumora.training.recipe import Recipe, recipe_of_text, recipe_text
from lumora.training.setup import Prepared
from lumora.training.stopping import AskedToStop, StopRequest, ended_by_signals, heeding_signals
from lumora.training.trained import changing_tensors


def same_choice(processes: Processes, choose: Callable[[], Chosen]) -> Chosen:
    """What the first process chooses, since others may find less memory free; it alone knows why."""
    made: list[Chosen] = []

    def made_recipe() -> Recipe:
        made.append(choose())
        return made[0].recipe

    recipe = same_recipe(processes, made_recipe)
    return made[0] if made else Chosen(recipe, {})


def same_recipe(processes: Processes, read: Callable[[], Recipe]) -> Recipe:
    """The recipe that the first process reads or chooses."""
    if processes.world == 1:
        return read()
    return recipe_of_text(processes.from_first(lambda: recipe_text(read()).encode()).decode())


@contextmanager
def kept_by_first(processes: Processes, take: Callable[[], RunFolder]) -> Generator[RunFolder]:
    """The run's folder, which the first process keeps and which it alone may write to."""
    kept: list[RunFolder] = []

    def path() -> bytes:
        kept.append(take())
        return os.fsencode(kept[0].path)

    place = processes.from_first(path)
    with kept[0] if kept else RunFolder(os.fsdecode(place)) as folder:
        yield folder


def check_same_pictures(processes: Processes, source: Source) -> None:
    """An error if the processes have found other pictures or labels than one another."""
    if processes.world == 1:
        return
    found = hashlib.sha256(json.dumps([source.task, *source.labels.names]).encode())
    for split in sorted(source.splits):
        for sample in source.splits[split]:
            found.update(json.dumps([split, sample.key, sample.target]).encode())
    if not processes.all_have(int.from_bytes(found.digest()[:7])):
        counts = ", ".join(f"{len(samples):,} in {split}" for split, samples in source.splits.items())
        raise TrainingError(
            f"The {processes.world} processes do not see the same pictures and labels; this one sees {counts}. The "
            "same data must lie on every machine, and a dataset at hand must have the same order in every process."
        )


@contextmanager
def ended_by_signals_to_any(processes: Processes, stop: StopRequest) -> Generator[None]:
    """Let Ctrl-C and SIGTERM end the block with `AskedToStop`: at once, or that of several processes when all are done.

    None of several may leave the others waiting.
    """
    if processes.world == 1:
        with ended_by_signals(stop):
            yield
        return
    with heeding_signals(stop):
        yield
        if processes.agree(stop.asked):
            raise AskedToStop


def newest_checkpoint(processes: Processes, folder: RunFolder) -> Found | None:
    """What `folder.resume()` gives, in every process; only the first sees the folder."""
    if processes.world == 1:
        return folder.resume()
    return _unpacked(processes.from_first(lambda: _packed(folder.resume())))


def begin_alike(processes: Processes, prepared: Prepared) -> None:
    """Make everything that the training changes the same in all processes, to the last bit."""
    average = prepared.work.average
    averages = [] if average is None else list(average.values.values())
    processes.take_from_first([*changing_tensors(prepared.model).values(), *averages])


def _packed(found: Found | None) -> bytes:
    """A line of plain values, then tensors."""
    if found is None:
        return b""
    values = {"step": found.step, "notes": found.notes, "state": found.checkpoint.state}
    return json.dumps(values).encode() + b"\n" + safetensors.torch.save(found.checkpoint.tensors)


def _unpacked(content: bytes) -> Found | None:
    if not content:
        return None
    line, _, tensors = content.partition(b"\n")
    values = json.loads(line)
    return Found(Checkpoint(safetensors.torch.load(tensors), values["state"]), values["step"], tuple(values["notes"]))
