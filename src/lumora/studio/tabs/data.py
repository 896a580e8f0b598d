"""The tab Data: choose data, look at them, and let the doctor see them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lumora.studio.data_view import ALL, Opened, open_data, page_of, place_of, visit
from lumora.studio.found import data_of, run_folders
from lumora.studio.html import notice, render
from lumora.studio.tabs.answering import Starter, counted, telling
from lumora.studio.workshop import Workshop


def arrange(workshop: Workshop, chosen: gr.State, at_first: str | None) -> Starter:
    """Lay the tab out; the path of the data that are open is put into `chosen`. Return what opens them at first."""
    with gr.Row(equal_height=False, elem_classes="lm-form"):
        path = gr.Dropdown(
            _known(workshop, at_first),
            value=at_first,
            allow_custom_value=True,
            label="Folder with pictures",
            info="A folder, a table, or a dataset on the Hub. Type or paste its path.",
            elem_id="data-path",
            scale=4,
        )
        opening = gr.Button("Open", variant="primary", scale=1, min_width=120, elem_id="data-open")
    told = gr.HTML(elem_id="data-notice", elem_classes="lm-told")
    summary = gr.HTML(render("empty", text="No data are open yet."), elem_id="data-summary")
    with gr.Column(visible=False) as browser:
        with gr.Row(elem_classes="lm-form"):
            split = gr.Dropdown([], label="Split", elem_id="data-split", min_width=140)
            label = gr.Dropdown([ALL], value=ALL, label="Class", elem_id="data-class", min_width=180)
            opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of masks", elem_id="data-opacity", min_width=180)
        samples = gr.HTML(elem_id="data-samples")
        number = gr.State(0)
        with gr.Row(elem_classes="lm-buttons"):
            before = gr.Button("Previous page", size="sm", elem_id="data-before")
            after = gr.Button("Next page", size="sm", elem_id="data-after")
        gr.Markdown("Let the doctor read every file: damaged pictures, wrong masks, duplicates, rare classes.")
        examine = gr.Button("Examine the data", elem_id="data-examine")
        findings = gr.HTML(elem_id="data-findings", elem_classes="lm-maybe")

    pace = gr.Progress()

    def opened(where: str, *, again: bool = False) -> Opened:
        return workshop.opened.get(where, lambda: open_data(where), again=again)

    @telling(9)
    def show(where: str | None, seen: float) -> Any:
        found = opened(place_of(where or "", workshop.runs), again=True)  # pictures may have been added since
        first = next(iter(found.source.splits))
        page = page_of(found, first, ALL, 0, seen)
        return (
            found.path,
            render("data_summary", opened=found, summary=found.summary),
            gr.Column(visible=True),
            gr.Dropdown(list(found.source.splits), value=first),
            gr.Dropdown([ALL, *found.source.labels.names], value=ALL, visible=not found.masked),
            gr.Slider(visible=found.masked),
            render("samples", page=page),
            page.number,
            "",
        )

    @telling(2)
    def turn(where: str | None, of: str, shown: str, at: int, seen: float, by: int) -> Any:
        if not where:
            return "", 0
        page = page_of(opened(where), of, shown or ALL, at + by, seen)
        return render("samples", page=page), page.number

    def turned(by: int, again: bool = False) -> Any:
        def work(where: str | None, of: str, shown: str, at: int, seen: float) -> Any:
            return turn(where, of, shown, 0 if again else at, seen, by)

        return work

    @telling(1)
    def examined(where: str | None, progress: Any = pace) -> Any:
        return render("findings", visit=visit(where or "", counted(progress, "files are read")))

    shown = [chosen, split, label, number, opacity]
    results = [told, samples, number]
    asked, outputs = [path, opacity], [told, chosen, summary, browser, split, label, opacity, samples, number, findings]
    for event in (opening.click, path.select):
        event(show, asked, outputs)
    for event in (split.input, label.input):
        event(turned(0, again=True), shown, results)
    opacity.input(turned(0), shown, results, trigger_mode="always_last", show_progress="hidden")
    before.click(turned(-1), shown, results)
    after.click(turned(1), shown, results)
    examine.click(lambda: notice("Every file is being read …"), None, told).then(
        examined, chosen, [told, findings], show_progress_on=told
    )
    return lambda page: page.load(show, asked, outputs) if at_first else None


def _known(workshop: Workshop, at_first: str | None) -> list[str]:
    """The data of earlier trainings."""
    found = (data_of(run) for run in run_folders(workshop.runs))
    return list(dict.fromkeys([*([at_first] if at_first else []), *(place for _, place in filter(None, found))]))
