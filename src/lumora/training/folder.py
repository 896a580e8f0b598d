"""The folder of a run: where its parts lie, that it is this process's alone, and how an interrupted run is taken up."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lumora.data.durable import clear_leftovers, make_folder
from lumora.data.locks import hold
from lumora.errors import CheckpointError, RunError
from lumora.paths import at_home
from lumora.training import checkpoints, metrics_file
from lumora.training.checkpoints import Checkpoint, Found

_LOCK = ".lock"


class RunFolder:
    """The folder of a run.

    Made as `RunFolder(path)` it only knows where things lie, for readers. `create` and `open` keep it for this process
    until `close`, the end of a `with` block or the end of the process, however that comes.
    """

    option = " with --out"
    """How its errors say that another folder can be named."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = at_home(path)
        self.recipe = self.path / "recipe.yaml"
        self.origins = self.path / "origins.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.bundle = self.path / "bundle"
        self.report = self.path / "report.html"
        self.log = self.path / "log.txt"
        self.progress = self.path / "progress.json"
        self._lock: FileIO | None = None

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """A new run's folder, made if need be; one that holds anything already is an error."""
        run = cls(path)
        with run._usable():
            run._refuse_unless_new()
            make_folder(run.path)
            run._take()
            run._refuse_unless_new()  # another process may have been faster
            clear_leftovers(run.path)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The folder of a run that was begun. What a kill left in it is cleared away."""
        run = cls(path)
        with run._usable():
            run._refuse_unless_begun()
            run._take()
            clear_leftovers(run.path)
            clear_leftovers(run.checkpoints)
            metrics_file.keep_rows(run.metrics, metrics_file.count_rows(run.metrics))
        return run

    def check_new(self) -> None:
        """An error if it holds anything already; nothing is changed."""
        with self._usable():
            self._refuse_unless_new()

    def check_begun(self) -> None:
        """An error unless a run was begun in it; nothing is changed."""
        with self._usable():
            self._refuse_unless_begun()

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- metrics ------------------------------------------------------------------------------------------------------

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a row to the metrics, which others can read from now on; numbers that are not finite become null."""
        metrics_file.append(self.metrics, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows, without one that is being written."""
        return metrics_file.read(self.metrics)

    def cut_metrics(self, after_step: int) -> None:
        """Remove the first row of a later `step`, and all that follow it."""
        rows = self.read_metrics()
        later = (i for i, row in enumerate(rows) if isinstance(row.get("step"), int) and row["step"] > after_step)
        metrics_file.keep_rows(self.metrics, next(later, len(rows)))

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Checkpoint, step: int, keep: int = 2) -> None:
        """Save a checkpoint, which also remembers the metrics of this moment."""
        metrics_file.sync(self.metrics)
        state = {"rows": metrics_file.count_rows(self.metrics), "training": checkpoint.state}
        checkpoints.save(self.checkpoints, replace(checkpoint, state=state), step, keep)

    def resume(self) -> Found | None:
        """The newest checkpoint that is whole, with the metrics cut to what they were then; None when there is none."""
        found = checkpoints.newest(self.checkpoints)
        if found is None:
            metrics_file.keep_rows(self.metrics, 0)
            return None
        state = found.checkpoint.state
        if not isinstance(state.get("rows"), int) or not isinstance(state.get("training"), dict):
            raise CheckpointError(f"The checkpoint of step {found.step:,} in {self.checkpoints} is of no run.")
        metrics_file.keep_rows(self.metrics, state["rows"])
        return replace(found, checkpoint=replace(found.checkpoint, state=state["training"]))

    # --- whose it is --------------------------------------------------------------------------------------------------

    @contextmanager
    def _usable(self) -> Generator[None]:
        """Errors of the system, in words; after any error the folder is free again."""
        try:
            yield
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            raise RunError(
                f"{self.path} cannot be used for a run: {error.strerror}. Name another folder{self.option}."
            ) from error

    def _take(self) -> None:
        """Keep the folder for this process."""
        self._lock = hold(self.path / _LOCK)
        if self._lock is None:
            raise RunError(
                f"Another run is at work in {self.path}{self._holder()}. Wait until it is done, or name another "
                f"folder{self.option}."
            )
        with contextlib.suppress(OSError):  # a full disk: nobody will be told who has it
            self._lock.truncate(0)
            self._lock.write(f"process {os.getpid()} on {socket.gethostname()}".encode())

    def _holder(self) -> str:
        try:
            text = (self.path / _LOCK).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return f" ({text})" if text else ""

    def _refuse_unless_new(self) -> None:
        if self.recipe.exists():
            raise RunError(
                f"There is a run in {self.path} already. Go on with it by `lumora resume {self.path}`, or name another "
                f"folder{self.option}."
            )
        try:
            found = sorted(path.name for path in self.path.iterdir() if path.name != _LOCK)
        except FileNotFoundError:
            return
        if found := [name for name in found if not name.startswith(f".{self.recipe.name}.")]:  # of one that was killed
            raise RunError(
                f"{self.path} is not empty ({', '.join(found[:3])}). Name a folder that is not there yet{self.option}."
            )

    def _refuse_unless_begun(self) -> None:
        if self.recipe.is_file():
            return
        if not self.path.is_dir():
            raise RunError(f"{self.path} is no folder; name the folder of a run, which holds {self.recipe.name}.")
        runs = sorted(path.parent.name for path in self.path.glob(f"*/{self.recipe.name}"))
        inside = f" Perhaps you mean one of the runs in it: {', '.join(runs[:8])}." if runs else ""
        raise RunError(f"{self.path} is no run: it holds no {self.recipe.name}.{inside}")


def free_place(path: str | os.PathLike[str]) -> Path:
    """This path, or where a finished run is, the first of path-2, path-3 … where none is."""
    wanted = Path(path)
    places = (wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(1))
    return next(place for place in places if not _is_finished(RunFolder(place)))


def _is_finished(run: RunFolder) -> bool:
    return run.recipe.exists() and run.bundle.is_dir()
