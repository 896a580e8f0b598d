"""Being asked to stop: by Ctrl-C or by the system."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class AskedToStop(KeyboardInterrupt):
    """Ends what cannot be ended after a step; not an `Exception`, so that nobody takes it for a failure."""


class StopRequest:
    """Whether somebody wants the training to end after the present step."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def ask(self, number: int) -> None:
        """Ask for it, as a signal does."""
        self.signal = number

    @property
    def asked(self) -> bool:
        """Whether somebody did."""
        return self.signal is not None


@contextmanager
def heeding_signals(request: StopRequest) -> Generator[None]:
    """Let Ctrl-C and SIGTERM ask for a stop until the end of the block; a second one stops at once, as ever.

    One that is ignored stays so: a shell does that to what it runs in the background.
    """
    with _signals(request.ask):
        yield


@contextmanager
def ended_by_signals(request: StopRequest) -> Generator[None]:
    """The same for what has no steps: the block ends at once, with `AskedToStop`."""

    def end(number: int) -> None:
        request.ask(number)
        raise AskedToStop

    with _signals(end):
        yield


@contextmanager
def _signals(handle: Callable[[int], None]) -> Generator[None]:
    """Let the first Ctrl-C or SIGTERM in the block be handled so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there may signals be handled
        return
    before: dict[int, Any] = {}

    def called(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        handle(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, called)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
