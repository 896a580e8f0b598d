"""Requests a second, and how long they take, of 1, 10 and 100 adapters over one base.

    python benchmarks/serving.py                                         # the comparison, half an hour of mixed load
    python benchmarks/serving.py --mixed 0 --out benchmarks/results/serving-cpu.md
    python benchmarks/serving.py --seconds 5 --adapters 1 10 --mixed 60  # to see that it works

Three servers answer the same pictures with the same bundles (a base with adapters on every layer, its own norms and
head each), one after the other, each a process of its own with as many threads:

- `lumora serve`: requests of different bundles in one batch;
- peft: the real package in a FastAPI process, `set_adapter` for every request (`benchmarks/serving_peers.py`);
- plain FastAPI: a model for each bundle, one picture at a time.

The clients are this process: so many connections, each asking again as soon as it is answered, for bundles in turn at
random. What they take of the machine is the same for all three. Pictures are 500 × 375 JPEGs.

The mixed load asks a server with little memory (so that bundles are forgotten and loaded again all the time) for
bundles of labels and of masks at random, some more than others, with bad pictures, unknown names and broken connections
among the requests, and looks at the memory of all its processes.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from measuring import Say, machine, written
from PIL import Image

from lumora.bundle import About, BaseReference, write
from lumora.bundle.about import installed_versions
from lumora.data import Labels
from lumora.data.sample import TaskName
from lumora.lora import LoraConfig, get_peft_model
from lumora.models import load_base
from lumora.training.setup import norm_paths

LABELS = tuple(f"kind {i}" for i in range(10))
SIDE = 224
ARMS = ("lumora", "peft", "plain")
MASKS = 20
"""Bundles that paint masks, in the mixed load only."""
_PATIENCE = 1800


# --- what is served ---------------------------------------------------------------------------------------------------


def save_bundles(folder: Path, count: int, name: str, task: TaskName = "classification") -> None:
    """Bundles on one base, as after so many trainings; what would be trained is filled with numbers."""
    base = load_base(name, task=task, labels=LABELS)
    saved = [*base.heads, *norm_paths(base)]
    reference = BaseReference.of(base)
    model = get_peft_model(base.module, LoraConfig(r=16, target_modules=base.targets, modules_to_save=saved)).eval()
    trained = {n: (p, p.detach().clone()) for n, p in model.named_parameters() if p.requires_grad}
    about = About(
        task=task,
        labels=Labels(LABELS),
        preprocessing=base.preprocessing,
        size=(SIDE, SIDE),
        base=reference,
        method="lora",
        versions=installed_versions(),
    )
    for i in range(count):
        numbers = torch.Generator().manual_seed(i)
        with torch.no_grad():
            for parameter, start in trained.values():
                parameter.copy_(start + 0.02 * torch.randn(start.shape, generator=numbers))
        write(folder / f"{task[0]}{i:03}", model, about)


def photographs(count: int = 32) -> list[bytes]:
    """Encoded pictures."""
    found: list[bytes] = []
    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=88)
        found.append(file.getvalue())
    return found


# --- servers ----------------------------------------------------------------------------------------------------------


@contextmanager
def serving(arm: str, folder: Path, threads: int, *more: str) -> Iterator[tuple[int, int]]:
    """The server of an arm: its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("serving_peers.py")), arm, str(folder), str(port)]
    if arm == "lumora":
        command = [sys.executable, "-m", "lumora", "serve", str(folder), "--port", str(port), "--device", "cpu", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    try:
        wait_for(process, port)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"The server ended with {process.returncode}; run it by hand to see why.")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                probe.sendall(b"GET /bundles HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if probe.recv(16):
                    return
        time.sleep(0.2)
    raise SystemExit("The server did not come up.")


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    failed: Counter[int] = field(default_factory=Counter)
    """How often each status that is no answer came."""
    rate: float = 0.0

    def at(self, share: float) -> float:
        """Milliseconds within which such a share was answered."""
        return 1000 * statistics.quantiles(self.seconds, n=100)[round(100 * share) - 1]


Kept = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
"""The connection that a client keeps, if it has one."""


async def ask(port: int, name: str, picture: bytes, kept: Kept) -> int:
    """One request's status."""
    reader, writer = kept.pop() if kept else await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /predict/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(picture)}\r\n\r\n".encode()
        + picture
    )
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
    await reader.readexactly(length)
    if "connection: close" in lines:
        writer.close()
    else:
        kept.append((reader, writer))
    return int(lines[0].split()[1])


async def load(
    port: int, names: list[str], pictures: list[bytes], connections: int, seconds: float, *, even: bool = True
) -> Counted:
    """So many clients for so long; the first fifth does not count.

    All bundles are asked for alike, or (not `even`) the first ones most.
    """
    weights = [1.0 if even else 1 / (rank + 1) for rank in range(len(names))]
    counted, began = Counted(), time.perf_counter()
    start, end = began + seconds / 5, began + seconds

    async def client(number: int) -> None:
        chance, kept = random.Random(number), Kept()
        while (asked := time.perf_counter()) < end:
            [name] = chance.choices(names, weights)
            status = await ask(port, name, chance.choice(pictures), kept)
            now = time.perf_counter()
            if status != 200:
                counted.failed[status] += 1
            elif asked >= start and now <= end:
                counted.seconds.append(now - asked)

    await asyncio.gather(*(client(i) for i in range(connections)))
    counted.rate = len(counted.seconds) / (end - start)
    return counted


# --- the comparison ---------------------------------------------------------------------------------------------------


def compare(say: Say, options: argparse.Namespace, home: Path, pictures: list[bytes]) -> None:
    say(f"{options.connections} connections for {options.seconds:g} s each; the best of {options.rounds} rounds.\n")
    say("| adapters | server | requests a second | p50 ms | p99 ms | of peft | p99 of lumora with 1 adapter |")
    say("|---|---|---|---|---|---|---|")
    alone: Counted | None = None
    for count in options.adapters:
        folder = home / f"{count}"
        folder.mkdir()
        names = [f"c{i:03}" for i in range(count)]
        for name in names:
            (folder / name).symlink_to(home / "all" / name)
        found = {arm: measured(arm, folder, names, pictures, options) for arm in ARMS}
        alone = alone or found["lumora"]
        for arm, counted in found.items():
            peft = f"{counted.rate / found['peft'].rate:.2f}" if arm != "peft" else "1.00"
            times = f"{counted.at(0.99) / alone.at(0.99):.2f}" if arm == "lumora" else ""
            failed = f" ({counted.failed.total()} failed)" if counted.failed else ""
            rate = f"{counted.rate:.1f}{failed}"
            say(f"| {count} | {arm} | {rate} | {counted.at(0.5):.0f} | {counted.at(0.99):.0f} | {peft} | {times} |")
    say("| 100 | *must be* | | | | ≥ 5 | ≤ 2 |\n")


def measured(arm: str, folder: Path, names: list[str], pictures: list[bytes], options: argparse.Namespace) -> Counted:
    with serving(arm, folder, options.threads) as (port, _):
        rounds = [
            asyncio.run(load(port, names, pictures, options.connections, options.seconds))
            for _ in range(options.rounds)
        ]
    return max(rounds, key=lambda counted: counted.rate)


# --- the mixed load ---------------------------------------------------------------------------------------------------


def mixed(say: Say, options: argparse.Namespace, home: Path, pictures: list[bytes]) -> None:
    """Half an hour of everything, and what it does to the memory."""
    save_bundles(home / "all", MASKS, options.base, "segmentation")
    names = sorted(path.name for path in (home / "all").iterdir())
    random.Random(0).shuffle(names)
    bad = [pictures[0][:999], b"\xff\xd8\xff" + bytes(50), b"GIF89a", b""]
    sizes: list[tuple[float, float]] = []
    with serving("lumora", home / "all", options.threads, "--memory", options.memory, "--no-preload") as (port, pid):
        began = time.monotonic()

        async def watch() -> None:
            while time.monotonic() - began < options.mixed:
                sizes.append((time.monotonic() - began, memory_of(pid)))
                await asyncio.sleep(max(1.0, options.mixed / 180))

        async def spoil() -> None:
            chance, kept = random.Random(1), Kept()
            while time.monotonic() - began < options.mixed:
                await ask(port, chance.choice([*names, "nobody", "..%2Fx"]), chance.choice(bad), kept)
                _, writer = await asyncio.open_connection("127.0.0.1", port)  # and gone in the middle of a request
                writer.write(b"POST /predict/c000 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nabc")
                writer.close()
                await asyncio.sleep(0.2)

        async def all_of_it() -> Counted:
            counted, *_ = await asyncio.gather(
                load(port, names, pictures, options.connections, options.mixed, even=False), watch(), spoil()
            )
            return counted

        counted = asyncio.run(all_of_it())
    third = [size for at, size in sizes if options.mixed / 3 <= at < 2 * options.mixed / 3]
    last = [size for at, size in sizes if at >= 2 * options.mixed / 3]
    say(f"Mixed load of {options.mixed / 60:.1f} minutes over {len(names)} bundles, {MASKS} of them of masks, with")
    say(f"{options.memory} for them and {options.connections} connections:")
    failed = ", ".join(f"{count} of status {status}" for status, count in counted.failed.items()) or "0"
    say(f"{len(counted.seconds):,} answers, {failed} failed; memory of all its processes: in the second third")
    say(f"{statistics.mean(third):.0f} MiB, in the last {statistics.mean(last):.0f} MiB, at most {max(last):.0f} MiB.")


def memory_of(pid: int) -> float:
    """MiB of a process and those that it started."""
    total = 0.0
    waiting = [pid]
    while waiting:
        one = Path(f"/proc/{waiting.pop()}")
        try:
            lines = (one / "status").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024
            waiting += [
                int(child) for task in (one / "task").iterdir() for child in (task / "children").read_text().split()
            ]
        except (OSError, StopIteration):  # it has just ended
            continue
    return total


def report(say: Say, options: argparse.Namespace) -> None:
    say("# Serving\n")
    torch.set_num_threads(options.threads)
    say(f"{machine('peft', 'fastapi', 'uvicorn', 'timm')}; {os.cpu_count()} cores, shared with the clients.")
    say(f"{options.base}, rank 16 on every layer, norms and head trained, pictures of {SIDE} × {SIDE}.\n")
    with tempfile.TemporaryDirectory() as folder:
        home, pictures = Path(folder), photographs()
        save_bundles(home / "all", max(options.adapters), options.base)
        if options.seconds:
            compare(say, options, home, pictures)
        if options.mixed:
            mixed(say, options, home, pictures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--base", default="lumora/efficientnet-lite0")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement; 0 leaves the comparison out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mixed", type=float, default=1800.0, help="seconds of the mixed load; 0 leaves it out")
    parser.add_argument("--memory", default="200MB", help="for the bundles of the mixed load")
    parser.add_argument("--out", type=Path, help="write the report there as well")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    written(chosen.out, lambda say: report(say, chosen))
