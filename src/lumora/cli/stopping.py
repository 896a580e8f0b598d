"""Ctrl-C, SIGTERM and failures of long work: they end the program tidily, and it says how to go on."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from lumora.cli import output

SIGNALLED = 128
"""What shells add to a signal's number, for the status of a program that it ended."""


class Terminated(BaseException):
    """SIGTERM came: what is open is closed on the way out."""


@contextmanager
def telling_how_to_go_on(run: Callable[[], Path | None]) -> Generator[None]:
    """End with 130 or 143 at once when Ctrl-C or SIGTERM come, where nobody else heeds them, and say how to go on.

    `run` gives the folder, once there is one.
    """
    try:
        with ending_tidily(lambda: _how(run())):
            yield
    except typer.Exit:
        raise
    except Exception:
        folder = run()
        if folder is not None and any(folder.glob("checkpoints/step-*")):
            output.note(f"what was learnt until the last checkpoint is kept; {_how(folder)}")
        raise


@contextmanager
def ending_tidily(told: Callable[[], str]) -> Generator[None]:
    """End with 130 or 143 when Ctrl-C or SIGTERM come, after what is open was closed, and tell something then."""
    before = signal.getsignal(signal.SIGTERM)
    if before is signal.SIG_DFL:  # one that is ignored stays so
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        typer.echo(f"stopped: {told()}", err=True)
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise typer.Exit(SIGNALLED + number) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def resume_command(run: Path) -> str:
    """What to type to go on with a run.

    >>> resume_command(Path("runs/my cats"))
    "lumora resume 'runs/my cats'"
    """
    return f"lumora resume {shlex.quote(str(run))}"


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _how(run: Path | None) -> str:
    return "nothing was learnt yet." if run is None else f"`{resume_command(run)}` goes on with it."
