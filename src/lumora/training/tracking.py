"""Programs that follow a training: TensorBoard, Weights & Biases, Trackio, MLflow; through accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumora.errors import RecipeError
from lumora.training.events import EpochDone, Listener, StepDone

_EVERY = 10
"""Steps between two losses that are told."""


class Tracking(Listener):
    """Tells trackers the losses and scores as they come."""

    def __init__(self, names: Sequence[str], folder: Path, recipe: Mapping[str, Any]) -> None:
        from accelerate import tracking

        self._trackers: list[Any] = []
        for name in names:
            kind: Any = tracking.LOGGER_TYPE_TO_CLASS[name]
            try:
                tracker = kind("lumora", folder) if kind.requires_logging_directory else kind("lumora")
                tracker.start()
            except (ImportError, NameError) as error:
                raise RecipeError(
                    f"run.track names {name}, which is not installed: pip install {name}, or leave it out of run.track."
                ) from error
            tracker.store_init_configuration({key: str(value) for key, value in recipe.items()})
            self._trackers.append(tracker)

    def step_done(self, event: StepDone) -> None:
        """Tell a loss now and then."""
        if event.step % _EVERY == 0:
            self._log({"loss": event.loss, "rate": event.rate}, event.step)

    def epoch_done(self, event: EpochDone) -> None:
        """Tell the scores."""
        self._log({f"validation/{name}": value for name, value in event.scores.items()}, event.step)

    def close(self) -> None:
        """Let the trackers write what they hold."""
        for tracker in self._trackers:
            tracker.finish()

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for tracker in self._trackers:
            tracker.log(dict(values), step=step)
