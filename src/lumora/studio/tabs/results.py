"""The tab Results: runs side by side, and what one of them gets wrong, to be relabelled and trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from lumora.errors import InputError
from lumora.studio.html import notice, render
from lumora.studio.results_view import compared, examined, finished_runs
from lumora.studio.tabs.answering import Starter, telling
from lumora.studio.tabs.mistakes import Mistakes
from lumora.studio.workshop import Workshop
from lumora.training.report.classes import COUNTED

_COMPARED = 3


def arrange(workshop: Workshop) -> Starter:
    """Lay the tab out; return what looks for finished runs again."""
    which = gr.Dropdown([], multiselect=True, label="Runs to compare", elem_id="results-which")
    table = gr.HTML(render("empty", text="No training is done yet."), elem_id="results-table")
    with gr.Row(elem_classes="lm-form"):
        run = gr.Dropdown([], label="Run to look into", elem_id="results-run", scale=3)
        start = gr.Button("Look for its mistakes", variant="primary", elem_id="results-examine", min_width=190)
    told = gr.HTML(elem_id="results-notice", elem_classes="lm-told")
    with gr.Row(visible=False, equal_height=False) as found:
        with gr.Column(scale=1, min_width=320):
            summary = gr.HTML(elem_id="results-summary")
        with gr.Column(scale=1, min_width=320):
            mistakes = Mistakes(workshop)
    shown = gr.State(None)  # the run whose mistakes are there, while another one may be chosen already
    mistakes.connect(shown, told)

    @telling(3 + len(mistakes.outputs))
    def look(folder: str | None, order: str) -> Any:
        if not folder:
            raise InputError("Choose a run first; a training that is done is one.")
        looked = examined(workshop, folder, again=True)
        summed = render("examined", looked=looked, name=Path(folder).name, counted_measures=COUNTED)
        return folder, gr.Row(visible=True), summed, *mistakes.shown(looked, order, None)

    def compare(chosen: list[str] | None) -> str:
        runs = [one for one in finished_runs(workshop.runs) if str(one.folder) in (chosen or [])]
        return render("comparison", table=compared(runs))

    def look_again(chosen: list[str] | None, into: str | None) -> Any:
        runs = [(one.name, str(one.folder)) for one in finished_runs(workshop.runs)]
        known = [folder for _, folder in runs]
        kept = [folder for folder in chosen or [] if folder in known] or known[:_COMPARED]
        one = into if into in known else next(iter(known), None)
        return gr.Dropdown(runs, value=kept), gr.Dropdown(runs, value=one), compare(kept)

    start.click(lambda: notice("Every picture for validation is looked at …"), None, told).then(
        look, [run, mistakes.order], [told, shown, found, summary, *mistakes.outputs]
    )
    which.input(compare, which, table)
    return lambda event: event(look_again, [which, run], [which, run, table])
