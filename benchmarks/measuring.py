"""What the benchmarks share: arms that take turns, peak memory, the machine in a line, and the command line."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import torch

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")

Say = Callable[[str], None]
"""Print a line of the report, and keep it."""


def fastest(arms: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each arm's fastest round. Every round has a turn of every arm; one before them does not count."""
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(rounds + 1):
        for arm, work in arms.items():
            start = time.perf_counter()
            work()
            if GPU:
                torch.cuda.synchronize()
            times[arm].append(time.perf_counter() - start)
    return {arm: min(seconds[1:]) for arm, seconds in times.items()}


def peak_elsewhere(script: str, *what: str) -> float:
    """MiB, as the `memory_of` of a script's command line finds it in a process of its own."""
    command = [sys.executable, script, "--memory-of", *what]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak(work: Callable[[], object], *, calls: int = 1) -> float:
    """MiB that some calls need beyond what is there before them; on a GPU, what the last of them needs."""
    memory = Memory()
    for _ in range(calls):
        if GPU:
            memory = Memory()
        work()
    return memory.needed()


class Memory:
    """What a process comes to need beyond what it has now; of the GPU's memory where there is one."""

    def __init__(self) -> None:
        self._before, self._most = self._now(), 0.0

    def mark(self) -> Memory:
        """Measure from here on as well, apart."""
        self._most = self._peak()
        return Memory()

    def needed(self) -> float:
        """The most until now, in MiB."""
        return max(self._most, self._peak()) - self._before

    def _now(self) -> float:
        if GPU:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated() / 2**20
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS") / 2**10

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / 2**20 if GPU else _status("VmHWM") / 2**10


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def machine(*packages: str) -> str:
    """What this was measured on, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    where = torch.cuda.get_device_name() + ", bf16" if GPU else f"{cpu}, {torch.get_num_threads()} threads"
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", *packages))
    return f"{where}; {versions}; Python {platform.python_version()}"


def command(doc: str | None, report: Callable[[Say, int], None], *, rounds: int, threads: int = 2) -> None:
    """The command line of a benchmark: print its report, given the number of rounds, and write it if asked to."""
    parser = _parser(doc, rounds, threads)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    written(options.out, lambda say: report(say, options.rounds))


def command_with_rows(
    doc: str | None,
    rows: Iterable[str],
    report: Callable[[Say, list[str], int, bool], None],
    memory_of: Callable[..., float],
    *,
    rounds: int,
) -> None:
    """The same for a benchmark of several rows, whose arms' memory is measured in processes of their own."""
    rows = list(rows)
    parser = _parser(doc, rounds, 2)
    parser.add_argument("rows", nargs="*", choices=[*rows, []], help="all when none is named")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory-of", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.memory_of:
        print(memory_of(*options.memory_of))
        return
    written(options.out, lambda say: report(say, options.rows or rows, options.rounds, not options.no_memory))


def _parser(doc: str | None, rounds: int, threads: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--out", type=Path, help="write the report there as well")
    return parser


def written(out: Path | None, report: Callable[[Say], None]) -> None:
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    report(say)
    if out:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
