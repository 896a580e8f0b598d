"""What the processes do that are started to train together. Each writes down what it has seen."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from safetensors.torch import save_file
from tests.training.small import Drawn, result, small_loop
from tests.training.tiny import save_pictures
from torch import Tensor, nn

from lumora.data import open_source
from lumora.data.entries import Entry
from lumora.training.class_weights import class_counts
from lumora.training.course import Course
from lumora.training.events import Listener
from lumora.training.recipe import parse_asked
from lumora.training.setup import prepare
from lumora.training.several import device_here, taking_part
from lumora.training.sifting import without_unreadable
from lumora.training.stepping import Stepper
from lumora.training.stopping import StopRequest
from lumora.training.surveying import chosen_for

WORLD = 2


def start(work: Any, *given: Any, world: int = WORLD) -> None:
    """Do `work(rank, *given)` in several processes that find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_started, args=(world, port, work, given), nprocs=world, start_method="spawn")


def _started(rank: int, world: int, port: int, work: Any, given: tuple[Any, ...]) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    os.environ.update(CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    work(rank, *given)


class Heard(Listener):
    """Remembers everything as plain values; asks for a stop after some step."""

    def __init__(self, stop: StopRequest | None = None, after: int | None = None) -> None:
        self.stop, self.after = stop, after
        self.epochs: list[Any] = []
        self.losses: list[float] = []
        self.texts: list[str] = []

    def step_done(self, event):
        self.losses.append(event.loss)
        if self.stop is not None and event.step == self.after:
            self.stop.ask(2)

    def epoch_done(self, event):
        self.epochs.append({name: value for name, value in event.row().items() if name != "seconds"})

    def told(self, text):
        self.texts.append(text)


@dataclass(frozen=True)
class Recorded(Drawn):
    """A picture that remembers that it was looked at."""

    def picture(self) -> Tensor:
        LOOKED_AT.append(self.number)
        return super().picture()


LOOKED_AT: list[int] = []


class Narrow(nn.Module):
    """The model, in a process that has memory for so many pictures at a time."""

    def __init__(self, model: nn.Module, room: int) -> None:
        super().__init__()
        self.model, self.room = model, room

    def forward(self, pixel_values: Tensor) -> Tensor:
        if len(pixel_values) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.model(pixel_values)


SHAPES: dict[str, dict[str, Any]] = {
    "adapters": {},
    "masks": {"masked": True},
    "uneven": {"batch_size": 5, "judged": 1},
    "uneven masks": {"masked": True, "batch_size": 5, "holes": True},
    "weighed": {"weights": (1.0, 5.0, 0.2)},
    "workers": {"workers": 1},
    "everything": {"adapted": False},
    "a step": {"adapted": False, "pictures": 4},
}
"""Trainings that are compared with those of one process."""


def train(name: str, processes: Any = None, *, in_parts: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One training without chance: what it comes to, and what was heard.

    In parts, one process computes at a time what several would.
    """
    heard = Heard()
    loop = small_loop(
        listener=heard,
        course=Course(1 if name == "a step" else 2),
        chance=False,
        drawn=Recorded,
        processes=processes,
        **SHAPES[name],
    )
    if in_parts:
        compute_in_parts(loop.work.stepper, SHAPES[name].get("batch_size", 4))
    LOOKED_AT.clear()
    loop.run()
    return result(loop), {"epochs": heard.epochs, "losses": heard.losses, "looked_at": list(LOOKED_AT)}


def compute_in_parts(stepper: Stepper, batch_size: int) -> None:
    order = [i for rank in range(WORLD) for i in range(rank, batch_size, WORLD)]
    stepper.micro_batch = -(-batch_size // WORLD)
    step = stepper.step
    stepper.step = lambda batch, *given: step({name: values[order] for name, values in batch.items()}, *given)


def all_trainings(rank: int, folder: str) -> None:
    """Every training of `SHAPES`, and what goes wrong in one process only."""
    with taking_part() as processes:
        for name in SHAPES:
            tensors, heard = train(name, processes)
            write(folder, f"{name}-{rank}", tensors, heard)
        out_of_memory_in_one(rank, folder, processes)
        asked_in_one(rank, folder, processes)
        stopped_and_gone_on_with(rank, folder, processes)
        work_that_is_shared(rank, folder, processes)


def out_of_memory_in_one(rank: int, folder: str, processes: Any) -> None:
    for name in ("adapters", "masks"):
        heard = Heard()
        loop = small_loop(listener=heard, course=Course(1), chance=False, processes=processes, **SHAPES[name])
        if rank == 1:
            loop.work.stepper.model = Narrow(loop.work.model, 1)
        loop.run()
        values = {"micro": loop.work.stepper.micro_batch, "texts": heard.texts}
        write(folder, f"memory of {name}-{rank}", result(loop), values)


def asked_in_one(rank: int, folder: str, processes: Any) -> None:
    """Asked in the second process only, after the third step; saved by both."""
    stop, saved = StopRequest(), []
    heard = Heard(stop, 3 if rank == 1 else None)
    loop = small_loop(save=saved.append, listener=heard, stop=stop, processes=processes, chance=False)
    ending = loop.run()
    tensors, values = saved[-1]
    del values["progress"]["seconds"]
    heard_of = {"ending": ending.name, "steps": len(heard.losses), "saved": len(saved), "values": values}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    write(folder, f"asked-{rank}", tensors, heard_of)


def stopped_and_gone_on_with(rank: int, folder: str, processes: Any) -> None:
    """With all that is drawn by chance: one training as a whole, one in two parts."""
    stop, saved = StopRequest(), []
    small_loop(save=saved.append, listener=Heard(stop, 7), stop=stop, processes=processes).run()
    for name, begun in (("gone-on-with", saved[-1]), ("whole", None)):
        loop = small_loop(processes=processes)
        if begun is not None:
            loop.load(*begun)
        loop.run()
        write(folder, f"{name}-{rank}", result(loop), {})


def work_that_is_shared(rank: int, folder: str, processes: Any) -> None:
    """Counting, looking for what cannot be read, decoding: each picture in one of the processes."""
    samples = save_pictures(Path(folder, f"pictures-{rank}"), 9) / "classes"
    source = open_source(samples, near_duplicates_together=False)
    (samples / "red" / "broken.png").write_bytes((samples / "red" / "0.png").read_bytes()[:200])
    broken = open_source(samples, near_duplicates_together=False, validation=0.5)
    told: list[str] = []
    whole = without_unreadable(broken, told.append, processes)
    given = {"base.name": "python:tests.training.tiny:sees", "pictures.size": 16, "train.batch_size": 2}
    recipe = chosen_for(parse_asked(given), source, device_here())[0].recipe
    cache = prepare(recipe, source, device_here(), processes=processes).work.loader.pictures.cache
    assert cache is not None
    key = f"{rank:032x}"
    cache.keep(key, Entry(torch.full((3, 4, 4), rank, dtype=torch.uint8), None, prepared=False))
    processes.wait()
    others = cache.read(f"{1 - rank:032x}")
    heard_of = {
        "counts": class_counts(source, "train", processes),
        "told": told,
        "left": [sample.key for samples in whole.splits.values() for sample in samples],
        "others": None if others is None else int(others.picture[0, 0, 0]),
        "cache": str(cache.folder),
    }
    processes.wait()
    write(folder, f"shared-{rank}", {"nothing": torch.zeros(1)}, heard_of)


def write(folder: str, name: str, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, Path(folder, f"{name}.safetensors"))
    Path(folder, f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
