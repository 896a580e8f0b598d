"""The folder of a run in Keras."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lumora.bundle import load, names, read_about
from lumora.data import Source
from lumora.errors import LumoraWarning
from lumora.integrations.keras.applying import count_parameters
from lumora.integrations.keras.callbacks import HELD_BACK, single_numbers
from lumora.integrations.keras.library import keras, ops
from lumora.training.events import Begun, StepDone
from lumora.training.folder import RunFolder
from lumora.training.progress_file import ProgressFile
from lumora.training.recipe import Recipe
from lumora.training.report.subject import of_bundle
from lumora.training.report.writing import write
from lumora.training.stopping import StopRequest

_LOSS = "loss"


class RunCallback(keras.callbacks.Callback):
    """Keeps a run's folder as `lumora train` does: `metrics.jsonl`, `log.txt`, and in the end `report.html`.

    While it trains there is a `progress.json`. A second `fit` with the same callback goes on with the run, its epochs
    counted on. A `BundleCallback(run.bundle, ...)` before it in the list puts the bundle beside them, which the report
    is about, and the rows say which epochs were the best so far.

    Args:
        folder: a new or empty one.
        source: the data. The report looks at their pictures for validation; without them there is none.
    """

    def __init__(self, folder: str | os.PathLike[str], source: Source | None = None) -> None:
        super().__init__()
        self._folder, self._source = _Folder(folder), source
        self._folder.check_new()
        self._progress = ProgressFile(self._folder.progress)
        self._began = self._spent = 0.0
        self._is_begun = self._is_new_fit = False
        self._epochs = self._shift = 0
        self._step = self._before = 0
        self._bundle_of: int | None = None
        self._of_training: set[str] = set()

    @property
    def bundle(self) -> Path:
        """Where the run's bundle lies."""
        return self._folder.bundle

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Make the folder, or go on with it, and keep it for this process."""
        if self._is_begun:
            self._folder.take_again()
        else:
            self._folder = _Folder.create(self._folder.path)
        self._is_begun = self._is_new_fit = True
        self._began = time.monotonic() - self._spent
        self._progress.clear()
        self._told(f"{self.model.name} on {keras.backend.backend()}, {self.params.get('epochs')} epochs")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Learn where in the run this epoch is."""
        self._before = self._step
        if self._is_new_fit:  # the first one of this `fit`, which may count from where the last one ended
            self._is_new_fit, self._shift = False, max(0, self._epochs - epoch)
            self._epochs = epoch + self._shift
            self._progress.begun(self._begun())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps, and learn what is measured while training."""
        self._of_training |= set(logs or {})
        self._step = self._before + batch + 1  # where several steps are one for Keras, this is the last of them
        if steps := self._steps():
            loss = float((logs or {}).get(_LOSS, math.nan))
            # The rate is not looked at here: that may take as long as the step.
            self._progress.step_done(StepDone(self._step, steps, self._epochs, loss, math.nan, math.nan))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add a row and a line."""
        numbers = _called_as_in_other_runs(single_numbers(logs or {}), self._of_training)
        self._epochs = epoch + 1 + self._shift
        row = {"epoch": self._epochs, "step": self._step, "rate": self._rate(), "is_best": self._has_new_bundle()}
        self._folder.append_metrics({**row, **numbers, "seconds": round(time.monotonic() - self._began, 3)})
        self._told(f"epoch {self._epochs}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Write the report; what keeps it from being written is told, for the bundle is saved all the same."""
        self._spent = time.monotonic() - self._began
        self._progress.clear()
        try:
            if self._source is not None and self.bundle.is_dir():
                self._report(self._source)
        except Exception as error:
            text = f"The report {self._folder.report} was not written: {error}"
            self._told(text)
            warnings.warn(text, LumoraWarning, stacklevel=2)
        finally:
            self._folder.close()

    def _report(self, source: Source) -> None:
        base = self.model if read_about(self.bundle).base.is_nameless else None
        subject = of_bundle(self._folder, Recipe(), source, load(self.bundle, base=base), torch.device("cpu"))
        write(replace(subject, parameters=count_parameters(self.model)[1]))

    def _begun(self) -> Begun:
        trained, parameters = count_parameters(self.model)
        return Begun(
            trained=trained,
            parameters=parameters,
            step=self._step,
            steps=self._steps() or 0,
            epoch=self._epochs,
            epochs=self._last_epoch(),
            best=None,
            seconds=self._spent,
            max_seconds=None,
            stop=StopRequest(),
        )

    def _steps(self) -> int | None:
        """Of the whole run, as far as this `fit` goes; None where Keras does not know yet how many an epoch has."""
        in_epoch = self.params.get("steps")
        return self._before + in_epoch * (self._last_epoch() - self._epochs) if in_epoch else None

    def _last_epoch(self) -> int:
        return self.params["epochs"] + self._shift

    def _rate(self) -> float:
        return float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _has_new_bundle(self) -> bool:
        """Whether the bundle is another one than when this was last asked."""
        before, about = self._bundle_of, self.bundle / names.ABOUT
        self._bundle_of = about.stat().st_mtime_ns if about.is_file() else None
        return self._bundle_of is not None and self._bundle_of != before

    def _told(self, text: str) -> None:
        with self._folder.log.open("a", encoding="utf-8") as log:
            log.write(text + "\n")


class _Folder(RunFolder):
    """One that the same process comes back to, named in Python."""

    option = ""

    def take_again(self) -> None:
        """Keep it once more."""
        self.close()  # a `fit` that was interrupted has it still
        with self._usable():
            self._take()


def _called_as_in_other_runs(logs: dict[str, float], of_training: Collection[str]) -> dict[str, float]:
    """Scores of pictures held back under their plain names, those of training as `train_…`; both losses as they are.

    >>> logs = {"loss": 2.0, "accuracy": 0.7, "val_loss": 2.5, "val_accuracy": 0.5}
    >>> _called_as_in_other_runs(logs, of_training={"loss", "accuracy"})
    {'loss': 2.0, 'train_accuracy': 0.7, 'val_loss': 2.5, 'accuracy': 0.5}
    """
    kept = {_LOSS, HELD_BACK + _LOSS}
    trained = {name for name in logs if name in of_training or HELD_BACK + name in logs}
    return {
        name if name in kept else f"train_{name}" if name in trained else name.removeprefix(HELD_BACK): value
        for name, value in logs.items()
    }
