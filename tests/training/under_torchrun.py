"""A program for torchrun: one training as its arguments say; each process writes down what it got.

`under_torchrun.py {"data": …, "run": …, "told": …, "settings": {…}, "trouble": {"what": …, "rank": 1, "step": 2}}`
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from lumora.data import Source
from lumora.errors import DataError
from lumora.training import finetune, resume
from lumora.training.recipe import parse_asked
from lumora.training.setup import source_for
from lumora.training.stepping import Stepper

RANK = int(os.environ.get("RANK", "0"))


WRITTEN: list[str] = []


def main(asked: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    trouble = asked.get("trouble") or {}
    watch_writes(Path(asked["run"]))
    source = source_for(parse_asked({"data.path": asked["data"]}).data)
    if trouble.get("rank") == RANK:
        source = cause(trouble, source)
    if asked.get("resume"):
        run = resume(asked["run"], source)
    else:
        run = finetune(source, out=asked["run"], settings=asked["settings"])
    told = {
        "ending": run.ending.name,
        "signal": run.signal,
        "epochs": run.epochs,
        "scores": dict(run.scores),
        "folder": str(run.folder),
        "notes": run.notes,
        "written": WRITTEN,
    }
    Path(asked["told"], f"{RANK}.json").write_text(json.dumps(told), encoding="utf-8")


def cause(trouble: dict[str, Any], source: Source) -> Source:
    """Let something go wrong in this process at some step."""
    if trouble["what"] == "other data":
        return Source(source.task, source.labels, {**source.splits, "train": list(source.splits["train"])[1:]}, "fewer")
    step = Stepper.step

    def stepped(self: Stepper, batch: Any, number: int, factor: float) -> Any:
        if number == trouble["step"]:
            if trouble["what"] == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            if trouble["what"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if trouble["what"] == "error":
                raise DataError("One picture has vanished.")
        return step(self, batch, number, factor)

    Stepper.step = stepped
    return source


def watch_writes(run: Path) -> None:
    """Remember every file below the run's folder that this process opens to write."""

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(given[0], str | os.PathLike):
            return
        _, _, flags = given
        if Path(given[0]).is_relative_to(run) and flags & (os.O_WRONLY | os.O_RDWR):
            WRITTEN.append(os.fspath(given[0]))

    sys.addaudithook(heard)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
