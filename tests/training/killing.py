"""Trainings in processes of their own that are killed: after some time, or inside of a write.

The processes are forked from one that has imported everything, so a new one begins at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

FILES_ARE_TOUCHED = {
    "open",
    "os.chmod",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "shutil.rmtree",
}
"""What Python tells audit hooks of, just before it does it."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.training.killing", "lumora.training.running", "timm", "transformers"])


@dataclass(frozen=True)
class Moment:
    """When a training is killed."""

    inside: str = ""
    """Begins the paths of the files that are being written then; empty for any moment."""
    number: int = 0
    """The so manieth time that one of them is touched."""
    seconds: float = 0.0
    """Of a moment that is anywhere: how long after the beginning."""


@dataclass(frozen=True)
class Training:
    """What is trained, and where."""

    data: Path
    out: Path
    settings: dict[str, Any]
    cache: Path

    def go_on(self, moment: Moment | None = None) -> bool:
        """Begin, or resume what was begun, in a process of its own; whether it was killed and did not end before."""
        begun = processes.Event()
        child = processes.Process(target=_train, args=(self, moment, begun))
        child.start()
        assert child.pid is not None
        assert begun.wait(120)
        if moment is not None and not moment.inside:
            time.sleep(moment.seconds)
            os.kill(child.pid, signal.SIGKILL)
        child.join(300)
        assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
        return child.exitcode != 0


def _train(training: Training, moment: Moment | None, begun: Event) -> None:
    import torch

    from lumora.training import finetune, resume

    multiprocessing.set_start_method("fork", force=True)  # for its workers, as in other programs
    torch.set_num_threads(1)
    os.environ["LUMORA_CACHE"] = str(training.cache)
    if moment is not None and moment.inside:
        _kill_at(moment)
    begun.set()
    if (training.out / "recipe.yaml").exists():
        resume(training.out)
    else:
        finetune(training.data, out=training.out, settings=training.settings)


def _kill_at(moment: Moment) -> None:
    """Kill this process in the given moment, whichever of its workers comes to it."""
    process, touched = os.getpid(), 0

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in FILES_ARE_TOUCHED and any(str(value).startswith(moment.inside) for value in values):
            touched += 1
            if touched == moment.number:
                os.kill(process, signal.SIGKILL)

    sys.addaudithook(hook)
