"""What happens beside `fit`: bundles of the best epochs, and the Hub."""

from __future__ import annotations

import math
import os
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumora.bundle import About
from lumora.bundle import hub as bundle_hub
from lumora.errors import LumoraError, LumoraWarning
from lumora.integrations.keras.bundles import save_bundle
from lumora.integrations.keras.library import Model, keras, ops
from lumora.integrations.keras.preprocessor import refuse_preprocessor

HELD_BACK = "val_"
"""How Keras begins the names of what was measured on pictures held back."""
Describe = Callable[[Model, dict[str, float]], About]
"""What a bundle says of a model with these scores; usually calls `describe`."""


class BundleCallback(keras.callbacks.Callback):
    """Writes a bundle whenever a score is better than before; each is verified before it takes its place.

    It reads the logs, so a `MetricCallback` that measures the score comes before it in the list. After an epoch without
    the score nothing is written. A training that never had it ends with a bundle of its last epoch, and a warning.

    Args:
        folder: where the bundle goes.
        about: what it says of itself, given the model and what was measured on pictures held back: the logs that begin
            with `val_`, without that.
        monitor: the score in the logs; of several, the first that is there. None writes after every epoch.
        lowest: whether lower is better, as for a loss.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        about: Describe,
        *,
        monitor: str | Sequence[str] | None = ("val_mean_iou", "val_accuracy", "val_macro_f1"),
        lowest: bool = False,
    ) -> None:
        super().__init__()
        self.folder, self.about, self.lowest = Path(folder), about, lowest
        self.monitor = (monitor,) if isinstance(monitor, str) else monitor
        self.best: float | None = None
        """The score of the bundle that is there."""
        self._best_of: str | None = None
        self._seen: set[str] = set()
        self._last: dict[str, float] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse a model that would learn from other pictures than its bundle predicts for."""
        refuse_preprocessor(self.model)
        self._seen.clear()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a bundle if this epoch is the best."""
        scores = single_numbers(logs or {})
        is_first = not self._seen
        self._seen |= set(scores)
        self._last = scores
        if self.monitor is None:
            self._write(scores)
            return
        chosen = self._chosen_by()
        if chosen is None and is_first:
            _warn(f"{self._lacking()} If it never comes, the bundle will be that of the last epoch.")
        if chosen != self._best_of:  # numbers of two names say nothing about each other
            self.best, self._best_of = None, chosen
        if chosen in scores and self._is_best(scores[chosen]):
            self._write(scores)
            self.best = scores[chosen]

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Write what the last epoch left, if there was nothing to choose by."""
        if self.monitor is None or self.best is not None or not self._seen:
            return
        chosen = self._chosen_by()
        reason = self._lacking() if chosen is None else f"{chosen!r} was no number after any epoch."
        try:
            self._write(self._last)
        except (LumoraError, OSError) as error:  # raised, it would keep later callbacks from ending
            _warn(f"{reason} And no bundle was written: {error}")
        else:
            _warn(f"{reason} So the bundle {self.folder} is that of the last epoch, not of the best.")

    def _write(self, scores: dict[str, float]) -> None:
        measured = {name.removeprefix(HELD_BACK): v for name, v in scores.items() if name.startswith(HELD_BACK)}
        save_bundle(self.folder, self.model, self.about(self.model, measured))

    def _chosen_by(self) -> str | None:
        return next((name for name in self.monitor or () if name in self._seen), None)

    def _lacking(self) -> str:
        wanted, found = " or ".join(map(repr, self.monitor or ())), ", ".join(map(repr, sorted(self._seen)))
        return (
            f"There was no {wanted} in the logs of fit, only {found}. Put the MetricCallback that measures it before "
            "the BundleCallback, or choose another monitor."
        )

    def _is_best(self, score: float) -> bool:
        if math.isnan(score):
            return False
        return self.best is None or (score < self.best if self.lowest else score > self.best)


class PushCallback(keras.callbacks.Callback):
    """Sends a bundle to a repository on the Hub when the training ends; what has arrived is checked.

    Where that fails, the training ends all the same, with a warning that says how to send it later.

    Args:
        folder: of the bundle, as a `BundleCallback` before it in the list writes it.
        repository: on the Hub, made when missing.
        base: the model as it was before training, where the bundle's base has no name.
        private: whether a new repository is to be private.
        token: if not the one that you have logged in with.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        repository: str,
        *,
        base: Model | None = None,
        private: bool = False,
        token: str | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.repository, self.base = Path(folder), repository, base
        self.private, self.token = private, token
        self.address: str | None = None
        """Where the bundle is, once it was sent."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Send the bundle."""
        try:
            self.address = bundle_hub.push(
                self.folder, self.repository, private=self.private, token=self.token, base=self.base
            )
        except (LumoraError, OSError) as error:  # raised, it would take the history of `fit` with it
            _warn(f"The bundle {self.folder} was not sent: {error} Send it later: {self._later()}")

    def _later(self) -> str:
        if self.base is None:
            return shlex.join(["lumora", "push", str(self.folder), self.repository, *["--private"] * self.private])
        private = ", private=True" if self.private else ""
        return f"lumora.bundle.hub.push({str(self.folder)!r}, {self.repository!r}, base=model{private})"


def single_numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """What the logs say by a single number. A metric that gives one for each class is left out.

    >>> single_numbers({"loss": 0.5, "f1_score": np.array([0.2, 0.3])})
    {'loss': 0.5}
    """
    found = {name: _number(value) for name, value in logs.items()}
    return {name: number for name, number in found.items() if number is not None}


def _number(value: Any) -> float | None:
    try:
        return float(np.asarray(ops.convert_to_numpy(value)).item())
    except (TypeError, ValueError):
        return None


def _warn(text: str) -> None:
    warnings.warn(text, LumoraWarning, stacklevel=3)
