"""The tab Results: runs side by side, and what one of them gets wrong, to be relabelled and trained again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lumora.errors import InputError
from lumora.studio.html import notice, render
from lumora.studio.results_view import TRAINING, VALIDATION, WORDS, Split, compared, examined, finished_runs
from lumora.studio.tabs.answering import Starter, counted, telling
from lumora.studio.tabs.mistakes import Mistakes, Showing
from lumora.studio.workshop import Workshop
from lumora.training.report.classes import COUNTED

_COMPARED = 3


def arrange(workshop: Workshop) -> Starter:
    """Lay the tab out; return what looks for finished runs again."""
    which = gr.Dropdown([], multiselect=True, label="Runs to compare", elem_id="results-which")
    table = gr.HTML(render("empty", text="No training is done yet."), elem_id="results-table")
    with gr.Row(elem_classes="lm-form"):
        run = gr.Dropdown([], label="Run to look into", elem_id="results-run", scale=3)
        split = gr.Radio(
            [(WORDS[one].capitalize(), one) for one in (VALIDATION, TRAINING)],
            value=VALIDATION,
            label="Pictures for",
            info="What is corrected in those for training changes what is learnt next.",
            elem_id="results-split",
            scale=2,
        )
        start = gr.Button("Look for its mistakes", variant="primary", elem_id="results-examine", min_width=190)
    told = gr.HTML(elem_id="results-notice", elem_classes="lm-told")
    with gr.Row(visible=False, equal_height=False) as found:
        with gr.Column(scale=1, min_width=320):
            summary = gr.HTML(elem_id="results-summary")
        with gr.Column(scale=1, min_width=320):
            mistakes = Mistakes(workshop)
    showing = gr.State(Showing())
    known = gr.State(None)  # the runs that were there before
    pace = gr.Progress()
    mistakes.connect(showing, told)

    @telling(2 + len(mistakes.outputs))
    def look(window: Showing, folder: str | None, part: Split, order: str, painting: bool, progress: Any = pace) -> Any:
        if not folder:
            raise InputError("Choose a run first; a training that is done is one.")
        seen = counted(progress, f"pictures for {WORDS[part]} are looked at")
        looked = examined(workshop, folder, part, again=True, seen=seen)
        summed = render("examined", looked=looked, name=Path(folder).name, counted_measures=COUNTED)
        answer = [gr.Row(visible=True), summed, *mistakes.shown(looked, order, None, painting)]
        window.looked = looked.of  # what is answered from now on is of this run
        return answer

    def compare(chosen: list[str] | None) -> str:
        runs = [one for one in finished_runs(workshop.runs) if str(one.folder) in (chosen or [])]
        return render("comparison", table=compared(runs))

    def look_again(chosen: list[str] | None, into: str | None, before: list[str] | None) -> Any:
        runs = [(one.name, str(one.folder)) for one in finished_runs(workshop.runs)]
        there = [folder for _, folder in runs]
        kept = to_compare(there, chosen or [], before)
        one = into if into in there else next(iter(there), None)
        return gr.Dropdown(runs, value=kept), gr.Dropdown(runs, value=one), compare(kept), there

    def announce(part: Split) -> str:
        return notice(f"Every picture for {WORDS[part]} is looked at …")

    start.click(announce, split, told).then(
        look,
        [showing, run, split, mistakes.order, mistakes.painting],
        [told, found, summary, *mistakes.outputs],
        show_progress_on=told,
    )
    which.input(compare, which, table)
    return lambda event: event(look_again, [which, run, known], [which, run, table, known])


def to_compare(there: Sequence[str], chosen: Sequence[str], before: Sequence[str] | None) -> list[str]:
    """The runs that are shown side by side: those that were chosen, and those that are new; a few at first.

    >>> to_compare(["c", "b", "a"], ["a"], ["b", "a"]), to_compare(["d", "c", "b", "a"], [], None)
    (['a', 'c'], ['d', 'c', 'b'])
    """
    kept = [run for run in chosen if run in there]
    new = [] if before is None else [run for run in there if run not in before]
    return [*kept, *(run for run in new if run not in kept)] or list(there[:_COMPARED])
