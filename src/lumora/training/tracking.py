"""Programs that follow a training: TensorBoard, Weights & Biases, Trackio, MLflow; through accelerate's trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lumora.errors import RecipeError
from lumora.training.events import EpochDone, Listener, StepDone

_EVERY = 10
"""Steps between two losses that are told."""


def refuse_missing(names: Sequence[str]) -> None:
    """An error if a tracker that is asked for is not installed."""
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    installed = {str(kind) for kind in get_available_trackers()}
    if missing := [name for name in names if name not in installed]:
        named = ", ".join(missing)
        raise RecipeError(
            f"run.track names {named}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install {' '.join(missing)}, or leave it out of run.track."
        )


class Tracking(Listener):
    """Tells trackers the losses and scores as they come. One that fails is told nothing more; the training goes on.

    Args:
        names: of the trackers, which are installed.
        folder: where those write that write files.
        recipe: what they are told first.
        told: hears of one that fails.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        recipe: Mapping[str, Any],
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        from accelerate import tracking

        self._told = told
        self._trackers: dict[str, Any] = {}
        for name in names:
            kind: Any = tracking.LOGGER_TYPE_TO_CLASS[name]
            self._trackers[name] = kind("lumora", folder) if kind.requires_logging_directory else kind("lumora")
        self._all("start")
        self._all("store_init_configuration", {key: str(value) for key, value in recipe.items()})

    def step_done(self, event: StepDone) -> None:
        """Tell a loss now and then."""
        if event.step % _EVERY == 0:
            self._all("log", {"loss": event.loss, "rate": event.rate}, step=event.step)

    def epoch_done(self, event: EpochDone) -> None:
        """Tell the scores."""
        self._all("log", {f"validation/{name}": value for name, value in event.scores.items()}, step=event.step)

    def close(self) -> None:
        """Let the trackers write what they hold."""
        self._all("finish")

    def _all(self, verb: str, *values: Any, **named: Any) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                getattr(tracker, verb)(*values, **named)
            except Exception as error:  # a server that is away, a full disk: whatever it is, it is theirs
                del self._trackers[name]
                self._told(f"The tracker {name} failed and is told nothing more ({type(error).__name__}: {error}).")
