"""The tab Train: the main choices, a plan with its costs, and trainings as they go."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lumora.errors import RunError
from lumora.studio.found import bundle_folders
from lumora.studio.html import notice, render
from lumora.studio.tabs.answering import Starter, telling
from lumora.studio.tabs.watching import Watch
from lumora.studio.wishes import CHOSEN, METHODS, Wishes, settings_of
from lumora.studio.workshop import Workshop

_BASES = (
    "lumora/efficientnet-lite0",
    "google/vit-base-patch16-224-in21k",
    "facebook/dinov2-small",
    "timm/convnext_tiny.in12k",
    "nvidia/mit-b0",
)
"""Some that are good to begin with; any other name may be typed."""


def arrange(workshop: Workshop, chosen: gr.State) -> Starter:
    """Lay the tab out; return what looks for trainings again."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            of = gr.HTML(_data_chosen(None), elem_id="train-data")
            form = _Form(workshop)
        with gr.Column(scale=2, min_width=320):
            told = gr.HTML(elem_id="train-notice", elem_classes="lm-told")
            planned = gr.HTML(elem_id="train-plan", elem_classes="lm-maybe")
            watch = Watch(workshop.trainings)
    watch.connect(told)

    @telling(1)
    def plan(data: str | None, *values: Any) -> str:
        from lumora.training.choosing import explained
        from lumora.training.planning.plan import plan as planned_for
        from lumora.training.schema.yaml_files import plain, written

        found = planned_for(_opened(data), settings=settings_of(Wishes(*values)))
        choices = [(key, written(plain(value)), how, why) for key, value, how, why in explained(found.chosen)]
        return render("plan", plan=found, choices=choices)

    @telling(len(watch.outputs))
    def begin(data: str | None, name: str | None, *values: Any) -> list[Any]:
        training = workshop.trainings.begin(_opened(data), settings_of(Wishes(*values)), _clean(name))
        return watch.shown(str(training.folder))

    chosen.change(_data_chosen, chosen, of)
    form.plan.click(lambda: notice("A few steps are tried, to measure time and memory …"), None, told).then(
        plan, [chosen, *form.wishes], [told, planned]
    )
    form.begin.click(begin, [chosen, form.name, *form.wishes], [told, *watch.outputs])
    return lambda event: (watch.when(event), form.when(event))


class _Form:
    """What may be wished of a training.

    Args:
        workshop: has the bundles that a training may begin from.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        base = gr.Dropdown(
            [CHOSEN, *_BASES],
            value=CHOSEN,
            allow_custom_value=True,
            label="Base",
            info="A pretrained model; the embedded one needs no network.",
            elem_id="train-base",
        )
        method = gr.Dropdown([CHOSEN, *METHODS], value=CHOSEN, label="What is trained", elem_id="train-method")
        with gr.Row():
            epochs = gr.Textbox("", label="Epochs", placeholder=CHOSEN, elem_id="train-epochs", min_width=120)
            size = gr.Textbox("", label="Picture size", placeholder=CHOSEN, elem_id="train-size", min_width=120)
        with gr.Accordion("More choices", open=False):
            with gr.Row():
                rank = gr.Textbox("", label="Rank", placeholder=CHOSEN, elem_id="train-rank", min_width=110)
                batch = gr.Textbox("", label="Batch size", placeholder=CHOSEN, elem_id="train-batch", min_width=110)
            with gr.Row():
                rate = gr.Textbox("", label="Learning rate", placeholder=CHOSEN, elem_id="train-rate", min_width=110)
                limit = gr.Textbox("", label="Time limit", placeholder="20m, say", elem_id="train-limit", min_width=110)
            self._start_from = gr.Dropdown(
                self._bundles(),
                value="",
                allow_custom_value=True,
                label="Begin from a bundle",
                info="Adapters and head are taken from it.",
                elem_id="train-from",
            )
            more = gr.Textbox(
                "",
                label="Other settings",
                info="One KEY=VALUE on a line, as in a recipe.",
                placeholder="lora.dropout=0.1",
                lines=3,
                elem_id="train-more",
            )
        self.name = gr.Textbox("", label="Name", placeholder="as the data are called", elem_id="train-name")
        gr.HTML('<p class="lm-soft">What is left empty is chosen for your data; the plan says how, and why.</p>')
        with gr.Row():
            self.plan = gr.Button("Plan", elem_id="train-plan-it", min_width=110)
            self.begin = gr.Button("Start training", variant="primary", elem_id="train-begin", min_width=150)
        self.wishes = [base, method, epochs, rank, batch, rate, size, limit, self._start_from, more]
        """In the order of `Wishes`."""

    def when(self, event: Any) -> object:
        """Look for bundles again when an event comes."""
        return event(lambda: gr.Dropdown(self._bundles()), None, self._start_from)

    def _bundles(self) -> list[str]:
        return ["", *map(str, bundle_folders(self._workshop.runs))]


def _data_chosen(path: str | None) -> str:
    return render("data_chosen", path=path)


def _opened(data: str | None) -> str:
    if not data:
        raise RunError("Open the data first, in the tab Data.")
    return data


def _clean(name: str | None) -> str:
    """A name that a folder may have."""
    return "".join(c if c.isalnum() or c in "-_. " else "-" for c in (name or "")).strip(" .-")
