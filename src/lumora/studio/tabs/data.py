"""The tab Data: choose data, look at them, and let the doctor see them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import gradio as gr

from lumora.studio.data_view import ALL, Opened, open_data, page_of, place_of, visit
from lumora.studio.found import data_of, run_folders
from lumora.studio.html import notice, render, sendable
from lumora.studio.tabs.answering import Starter, counted, telling
from lumora.studio.workshop import Workshop


def arrange(workshop: Workshop, chosen: gr.State, at_first: str | None) -> Starter:
    """Lay the tab out; the path of the data that are open is put into `chosen`. Return what opens them at first."""
    known = {sendable(place): place for place in _known(workshop, at_first)}
    with gr.Row(equal_height=False, elem_classes="lm-form"):
        path = gr.Dropdown(
            list(known),
            value=at_first and sendable(at_first),
            allow_custom_value=True,
            label="Folder with pictures",
            info="A folder, a table, or a dataset on the Hub. Type or paste its path.",
            elem_id="data-path",
            scale=4,
        )
        opening = gr.Button("Open", variant="primary", scale=1, min_width=120, elem_id="data-open")
    told = gr.HTML(elem_id="data-notice", elem_classes="lm-told")
    summary = gr.HTML(render("empty", text="No data are open yet."), elem_id="data-summary")
    with gr.Column(visible=False) as there:
        samples = _Samples(workshop)
        gr.Markdown("Let the doctor read every file: damaged pictures, wrong masks, duplicates, rare classes.")
        examine = gr.Button("Examine the data", elem_id="data-examine")
        findings = gr.HTML(elem_id="data-findings", elem_classes="lm-maybe")
    samples.connect(chosen, told)
    pace = gr.Progress()

    @telling(4 + len(samples.outputs))
    def show(typed: str | None, opacity: float) -> list[Any]:
        place = place_of(known.get(typed or "", typed or ""), workshop.runs)
        opened = workshop.opened.get(place, lambda: open_data(place), again=True)  # pictures may have been added since
        summed = render("data_summary", opened=opened, summary=opened.summary)
        return [opened.path, summed, gr.Column(visible=True), "", *samples.first(opened, opacity)]

    @telling(1)
    def examined(place: str | None, progress: Any = pace) -> str:
        return render("findings", visit=visit(place or "", counted(progress, "files are read")))

    given, outputs = [path, samples.opacity], [told, chosen, summary, there, findings, *samples.outputs]
    for event in (opening.click, path.select):
        event(show, given, outputs)
    examine.click(lambda: notice("Every file is being read …"), None, told).then(
        examined, chosen, [told, findings], show_progress_on=told
    )
    return lambda page: page.load(show, given, outputs) if at_first else None


class _Samples:
    """The samples of open data, a page of them at a time.

    Args:
        workshop: keeps the data that were opened.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        with gr.Row(elem_classes="lm-form"):
            self._split = gr.Dropdown([], label="Split", elem_id="data-split", min_width=140)
            self._label = gr.Dropdown([ALL], value=ALL, label="Class", elem_id="data-class", min_width=180)
            self.opacity = gr.Slider(
                0, 1, 0.5, step=0.05, label="Opacity of masks", elem_id="data-opacity", min_width=180
            )
        self._page = gr.HTML(elem_id="data-samples")
        self._number = gr.State(0)
        with gr.Row(elem_classes="lm-buttons"):
            self._before = gr.Button("Previous page", size="sm", elem_id="data-before")
            self._after = gr.Button("Next page", size="sm", elem_id="data-after")
        self.outputs = [self._split, self._label, self.opacity, self._page, self._number]

    def connect(self, chosen: gr.State, told: gr.HTML) -> None:
        """Let its parts answer, for the data whose path is in `chosen`."""
        given = [chosen, self._split, self._label, self.opacity, self._number]
        turned = [told, self._page, self._number]
        for event in (self._split.input, self._label.input):
            event(self._turning(by=None), given, turned)
        self.opacity.input(self._turning(by=0), given, turned, trigger_mode="always_last", show_progress="hidden")
        self._before.click(self._turning(by=-1), given, turned)
        self._after.click(self._turning(by=1), given, turned)

    def first(self, opened: Opened, opacity: float) -> list[Any]:
        """What is put into `outputs` when data were opened."""
        splits, names = list(opened.source.splits), opened.source.labels.names
        page = page_of(opened, splits[0], ALL, 0, opacity)
        return [
            gr.Dropdown(splits, value=splits[0]),
            gr.Dropdown(_choices([ALL, *names]), value=json.dumps(ALL), visible=not opened.masked),
            gr.Slider(visible=opened.masked),
            render("samples", page=page),
            page.number,
        ]

    def _turning(self, by: int | None) -> Any:
        """What turns so many pages; with None, to the first one."""

        @telling(2)
        def turned(place: str | None, split: str, label: str, opacity: float, number: int) -> tuple[str, int]:
            if not place:
                return "", 0
            opened = self._workshop.opened.get(place, lambda: open_data(place))
            name = json.loads(label) if label else ALL
            page = page_of(opened, split, name, 0 if by is None else number + by, opacity)
            return render("samples", page=page), page.number

        return turned


def _choices(names: Iterable[str]) -> list[str | tuple[str, str | int | float]]:
    """Classes to choose from: what each is called on the page, and what the page sends for it, which is ASCII."""
    return [(sendable(name), json.dumps(name)) for name in names]


def _known(workshop: Workshop, at_first: str | None) -> list[str]:
    """The data of earlier trainings."""
    found = (data_of(run) for run in run_folders(workshop.runs))
    return list(dict.fromkeys([*([at_first] if at_first else []), *(place for _, place in filter(None, found))]))
