"""Being asked to stop: by Ctrl-C, by the system, or because the time is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any


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
    if threading.current_thread() is not threading.main_thread():
        yield  # only there may signals be handled
        return
    before: dict[int, Any] = {}

    def heed(number: int, frame: FrameType | None) -> None:
        request.ask(number)
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
