"""How a training goes, for people: a display on a terminal, a line now and then in a log, or nothing.

All of it goes to the standard error. Import this when a training is about to begin; it imports torch.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from lumora.cli import output, overview
from lumora.cli.memory import memory_in_use
from lumora.cli.pace import Pace
from lumora.training.events import Begun, EpochDone, Listener, Opened, StepDone


class Quiet(Listener):
    """Shows nothing but warnings, and remembers what the end needs."""

    def __init__(self) -> None:
        self.about: Opened | None = None
        self.start: Begun | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def line(self, text: str) -> None:
        """Show a line that stays."""

    @property
    def folder(self) -> Path | None:
        """Of the run, once there is one."""
        return None if self.about is None else self.about.folder

    def opened(self, event: Opened) -> None:
        """Remember it."""
        self.about = event

    def begun(self, event: Begun) -> None:
        """Remember it."""
        self.start = event

    def told(self, text: str) -> None:
        """Show a warning."""
        output.note(text)


class Lines(Quiet):
    """A line for each epoch, and for whatever else takes its time."""

    def line(self, text: str) -> None:
        """Show a line that stays."""
        typer.echo(text, err=True)

    def opened(self, event: Opened) -> None:
        """Show what was found and chosen."""
        super().opened(event)
        for line in overview.lines(event):
            self.line(line)

    def begun(self, event: Begun) -> None:
        """Show what is trained, and from where."""
        super().begun(event)
        share = 100 * event.trained / max(1, event.parameters)
        self.line(f"{'trains':<8} {event.trained:,} of {event.parameters:,} parameters ({share:.3g} %)")
        if event.step:
            self.line(f"{'goes on':<8} after step {event.step:,} of {event.steps:,}")

    def doing(self, what: str) -> None:
        """Show what takes its time now."""
        self.line(f"{what} …")

    def epoch_done(self, event: EpochDone) -> None:
        """Show the scores."""
        epochs = self.start.epochs if self.start else event.epoch
        where = f"epoch {event.epoch:,}/{epochs:,}" if event.loss is not None else "before"
        parts = [where, *self._figures(event), _clock(event.seconds)]
        if event.is_best and event.main and event.loss is not None:
            parts.append("best")
        self.line("  ".join(parts))

    def _figures(self, event: EpochDone) -> list[str]:
        loss = [] if event.loss is None else [f"loss {event.loss:.4f}"]
        return loss + ([f"{event.main} {event.scores[event.main]:.4f}"] if event.main in event.scores else [])


class Display(Lines):
    """Two lines at the lower end of a terminal that change as it goes, below the lines that stay."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._pace: Pace | None = None
        self._doing = ""
        self._step: StepDone | None = None
        self._epoch: EpochDone | None = None
        self._best: float | None = None
        self._began_at = 0.0
        self._evaluating: tuple[int, int] | None = None
        self._spinner = Spinner("dots")
        self._live = Live(console=console, transient=True, get_renderable=self._shown, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def doing(self, what: str) -> None:
        """Show what takes its time now."""
        self._doing = what

    def begun(self, event: Begun) -> None:
        """Begin to look at the clock."""
        super().begun(event)
        self._doing, self._best, self._began_at = "", event.best, time.monotonic()
        self._pace = Pace(
            steps=event.steps, epochs=event.epochs, epoch=event.epoch, step=event.step, now=self._began_at
        )

    def step_done(self, event: StepDone) -> None:
        """Show a step."""
        self._step, self._evaluating, self._doing = event, None, ""
        if self._pace is not None:
            self._pace.stepped(event.step, event.pictures_per_second, time.monotonic())

    def evaluating(self, done: int, pictures: int) -> None:
        """Show how far an evaluation is."""
        self._evaluating, self._doing = (done, pictures), ""

    def epoch_done(self, event: EpochDone) -> None:
        """Show the scores, above."""
        super().epoch_done(event)
        self._epoch, self._evaluating = event, None
        if event.is_best:
            self._best = event.scores.get(event.main)
        if self._pace is not None:
            self._pace.evaluated(event.epoch, time.monotonic())

    # --- drawing, from a thread of the display's own ------------------------------------------------------------------

    def _shown(self) -> Group:
        return Group(self._bar(), Text("   ".join(self._facts()), no_wrap=True, overflow="ellipsis"))

    def _bar(self) -> Table | Spinner:
        begun = self.start
        if self._doing or begun is None:
            self._spinner.update(text=Text(f"{self._doing} …"))
            return self._spinner
        done, total = (self._step.step if self._step else begun.step), begun.steps
        what = f"step {done:,}/{total:,}"
        if self._evaluating is not None:
            done, total = self._evaluating
            what = f"evaluating {done:,}/{total:,}"
        if begun.stop.asked:
            what = "stopping after this step; Ctrl-C again stops at once"
        grid = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None):
            grid.add_column(no_wrap=True, ratio=ratio)
        grid.add_row(Text(what), ProgressBar(total, done), Text(self._left(begun)))
        return grid

    def _left(self, begun: Begun) -> str:
        left = self._pace.left(time.monotonic()) if self._pace is not None else None
        if left is None:
            return ""
        if begun.max_seconds is not None:
            spent = begun.seconds + time.monotonic() - self._began_at
            left = min(left, max(0.0, begun.max_seconds - spent))
        return f"{_clock(left)} left"

    def _facts(self) -> list[str]:
        facts: list[str] = []
        if self._step is not None:
            facts.append(f"loss {self._step.loss:.4f}")
        if self._epoch is not None and self._epoch.main in self._epoch.scores:
            best = "" if self._best is None else f" (best {self._best:.4f})"
            facts.append(f"{self._epoch.main} {self._epoch.scores[self._epoch.main]:.4f}{best}")
        if self._pace is not None and self._pace.speed is not None:
            facts.append(f"{self._pace.speed:.3g} pictures/s")
        if (memory := memory_in_use()) is not None:
            facts.append(f"{memory[0]} {output.size(memory[1])}")
        return facts


def display(quiet: bool) -> Quiet:
    """What suits where the standard error goes."""
    if quiet:
        return Quiet()
    console = Console(stderr=True, highlight=False)
    return Display(console) if sys.stderr.isatty() and console.is_interactive else Lines()


def _clock(seconds: float) -> str:
    """A length of time for people.

    >>> _clock(3671.4)
    '1:01:11'
    """
    return str(timedelta(seconds=round(seconds)))
