"""Trainings as they go: what one of them does, and the buttons that stop it, go on with it, or take it off the list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from lumora.errors import RunError
from lumora.studio.html import render
from lumora.studio.progress_view import progress_of, signature, steps_of
from lumora.studio.tabs.answering import telling
from lumora.studio.trainings import WORDS, Training, Trainings

_EVERY = 2.0
"""Seconds from one look at a training to the next."""


class Watch:
    """Shows one training, again and again while it runs.

    Args:
        trainings: those that are begun from the page, or by others in the same folder.
    """

    def __init__(self, trainings: Trainings) -> None:
        self._trainings = trainings
        with gr.Row(elem_classes="lm-form"):
            self._which = gr.Dropdown([], label="Training", elem_id="train-which", scale=3)
            self._stop = gr.Button("Stop", elem_id="train-stop", min_width=90, interactive=False)
            self._go_on = gr.Button("Go on", elem_id="train-resume", min_width=90, interactive=False)
            self._forget = gr.Button("Take off the list", elem_id="train-forget", min_width=130, visible=False)
        steps = gr.HTML(elem_id="train-live", elem_classes="lm-live")
        progress = gr.HTML(_none_begun(), elem_id="train-progress")
        self._seen = gr.State(None)  # the signature of what is shown
        self._newest = gr.State(None)  # what was begun last when the tab was opened last
        self._timer = gr.Timer(_EVERY, active=False)
        self.outputs = [
            *(self._which, steps, progress, self._seen),
            *(self._stop, self._go_on, self._forget, self._timer),
        ]

    def connect(self, told: gr.HTML) -> None:
        """Let its parts answer; what cannot be done is told in `told`."""
        changes = (
            (self._stop, self._trainings.stop),
            (self._go_on, self._trainings.resume),
            (self._forget, self._trainings.forget),
        )
        for button, change in changes:
            button.click(self._changing(change), self._which, [told, *self.outputs])
        self._which.input(self.shown, self._which, self.outputs)
        self._timer.tick(self.shown, [self._which, self._seen], self.outputs, show_progress="hidden")

    def when(self, event: Any) -> object:
        """Look at the trainings when an event comes; at the newest one, if it was begun since the event before."""
        return event(self._opened, [self._which, self._newest], [self._newest, *self.outputs])

    def shown(self, folder: str | None, before: Any = None) -> list[Any]:
        """What is put into `outputs` for a training.

        Args:
            folder: the training's; of one that is not there, the newest training that runs is shown.
            before: what was shown before, as `signature` has it; parts that are still the same are left alone.
        """
        found = self._trainings.all()
        if not found:
            off, gone = gr.Button(interactive=False), gr.Button(visible=False)
            return [gr.Dropdown([], value=None), "", _none_begun(), None, off, off, gone, gr.Timer(active=False)]
        newest = next((each for each in found if each.runs), found[0])
        training = next((each for each in found if str(each.folder) == folder), newest)
        now = signature(training)
        changed = now != before
        choices = [(_told(each), str(each.folder)) for each in found]
        stopping = self._trainings.is_stopping(training.folder)
        return [
            gr.Dropdown(choices, value=str(training.folder)) if changed else gr.skip(),
            render("steps", name=training.name, now=steps_of(training), stopping=stopping),
            render("progress", one=progress_of(training)) if changed else gr.skip(),
            now,
            gr.Button(interactive=training.runs),
            gr.Button(interactive=self._trainings.can_go_on(training)),
            gr.Button(visible=self._trainings.can_be_forgotten(training)),
            gr.Timer(active=training.runs),
        ]

    def _opened(self, folder: str | None, newest: str | None) -> list[Any]:
        last = next((str(each.folder) for each in self._trainings.all()), None)
        return [last, *self.shown(folder if last == newest else None)]

    def _changing(self, change: Callable[[Path], Training | None]) -> Callable[..., Any]:
        @telling(len(self.outputs))
        def changed(folder: str | None) -> list[Any]:
            if not folder:
                raise RunError("Choose a training first.")
            training = change(Path(folder))
            return self.shown(training and str(training.folder))

        return changed


def _none_begun() -> str:
    return render("empty", text="No training was begun yet.")


def _told(training: Training) -> str:
    return f"{training.name} – {WORDS[training.state].partition(';')[0]}"
