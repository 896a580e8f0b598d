"""The page: a heading and the tabs. What each does lies in its own file."""

from __future__ import annotations

import gradio as gr

from lumora.studio.html import render
from lumora.studio.tabs import data, library, results, train, try_it
from lumora.studio.workshop import Workshop

_HOUR, _DAY = 3600, 86_400


def made(workshop: Workshop, data_at_first: str | None) -> gr.Blocks:
    """The whole page."""
    # What was uploaded, or made to be downloaded, is looked through every hour and goes after a day.
    with gr.Blocks(title="Lumora studio", analytics_enabled=False, fill_width=True, delete_cache=(_HOUR, _DAY)) as page:
        gr.HTML(render("heading", runs=str(workshop.runs)))
        chosen = gr.State(None)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Data", id="data"):
                begin = data.arrange(workshop, chosen, data_at_first)
            with gr.Tab("Train", id="train") as training:
                look_at_trainings = train.arrange(workshop, chosen)
            with gr.Tab("Results", id="results") as resulting:
                look_at_results = results.arrange(workshop)
            with gr.Tab("Try", id="try") as trying:
                look_for_bundles = try_it.arrange(workshop)
            with gr.Tab("Library", id="library") as shelves:
                look_at_shelves = library.arrange(workshop)
        begin(page)
        look_at_trainings(training.select)
        look_at_results(resulting.select)
        look_for_bundles(trying.select)
        look_at_shelves(shelves.select)
    return page
