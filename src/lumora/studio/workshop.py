"""What the page works with while it is open: where trainings lie, and what is kept at hand of data and bundles."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from lumora.studio.trainings import Trainings

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The last few values that were made, by what they were made of; each is made once, whoever asks.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Any, Value] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Any, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not there. Whoever asks meanwhile waits."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
            return self._values[key]

    def forget(self) -> None:
        """Let all of them go."""
        with self._lock:
            self._values.clear()


class Workshop:
    """Where trainings lie, and what is at hand.

    Args:
        runs: the folder in which trainings lie, and new ones are put.
        scratch: a folder for files that are there as long as the page.
    """

    def __init__(self, runs: Path, scratch: Path) -> None:
        self.runs, self.scratch = runs.expanduser().absolute(), scratch
        self.trainings = Trainings(self.runs)
        self.opened: Kept[Any] = Kept(2)
        """Data that were opened."""
        self.predictors: Kept[Any] = Kept(3)
        """Bundles that are ready to predict."""
        self.examined: Kept[Any] = Kept(2)
        """Runs whose mistakes were looked for."""
