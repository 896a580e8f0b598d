"""What the page works with while it is open: where trainings lie, and what is kept at hand of data and bundles."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from lumora.paths import at_home
from lumora.studio.trainings import Trainings

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The last few values that were made, by what they were made of; each is made once, whoever asks.

    Whoever asks for what is being made waits for it, and for nothing else.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Any, Value] = OrderedDict()
        self._lock = threading.Lock()
        self._making: WeakValueDictionary[Any, _Turn] = WeakValueDictionary()

    def get(self, key: Any, make: Callable[[], Value], *, again: bool = False) -> Value:
        """The value of a key, made if it is not there, or `again`; until then the one of before stays."""
        with self._lock:
            if key in self._values and not again:
                return self._used(key)
            turn = self._making.setdefault(key, _Turn())
        with turn.lock:
            with self._lock:
                if key in self._values and not again:  # somebody else has made it meanwhile
                    return self._used(key)
            value = make()
            with self._lock:
                self._values[key] = value
                self._used(key)
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
            return value

    def _used(self, key: Any) -> Value:
        self._values.move_to_end(key)
        return self._values[key]


class _Turn:
    """Whose turn it is to make a value."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Workshop:
    """Where trainings lie, and what is at hand.

    Args:
        runs: the folder in which trainings lie, and new ones are put.
        scratch: a folder for files that are there as long as the page.
    """

    def __init__(self, runs: Path, scratch: Path) -> None:
        self.runs, self.scratch = at_home(runs).absolute(), scratch
        self.trainings = Trainings(self.runs)
        self.opened: Kept[Any] = Kept(4)
        """Data that were opened."""
        self.predictors: Kept[Any] = Kept(3)
        """Bundles that are ready to predict."""
        self.examined: Kept[Any] = Kept(4)
        """Runs whose mistakes were looked for."""
