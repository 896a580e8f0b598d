"""The tab Train: a plan with its costs, the main choices, and trainings as they go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from lumora.errors import RunError
from lumora.studio.found import bundle_folders
from lumora.studio.html import notice, render
from lumora.studio.progress_view import progress_of, signature, steps_of
from lumora.studio.tabs.answering import Starter, telling
from lumora.studio.trainings import WORDS, Training
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
_EVERY = 2.0
"""Seconds from one look at a training to the next."""


def arrange(workshop: Workshop, chosen: gr.State) -> Starter:
    """Lay the tab out; return what looks for trainings again."""
    trainings = workshop.trainings
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            of = gr.HTML(_data_chosen(None), elem_id="train-data")
            fields, plan, begin = _form(workshop)
        with gr.Column(scale=2, min_width=320):
            told = gr.HTML(elem_id="train-notice", elem_classes="lm-told")
            planned = gr.HTML(elem_id="train-plan", elem_classes="lm-maybe")
            with gr.Row(elem_classes="lm-form"):
                which = gr.Dropdown([], label="Training", elem_id="train-which", scale=3)
                stop = gr.Button("Stop", elem_id="train-stop", min_width=90, interactive=False)
                go_on = gr.Button("Go on", elem_id="train-resume", min_width=90, interactive=False)
                forget = gr.Button("Take off the list", elem_id="train-forget", min_width=130, visible=False)
            live = gr.HTML(elem_id="train-live", elem_classes="lm-live")
            shown = gr.HTML(_none_begun(), elem_id="train-progress")
    seen = gr.State(None)
    latest = gr.State(None)  # what was begun last when the tab was opened last
    timer = gr.Timer(_EVERY, active=False)
    watched = [which, live, shown, seen, stop, go_on, forget, timer]

    def look(name: str | None, before: Any, *, anew: bool = False) -> Any:
        found = trainings.all()
        if not found:
            off, gone = gr.Button(interactive=False), gr.Button(visible=False)
            return [gr.Dropdown([], value=None), "", _none_begun(), None, off, off, gone, gr.Timer(active=False)]
        newest = next((each for each in found if each.runs), found[0])
        training = next((each for each in found if str(each.folder) == name), newest)
        now = signature(training)
        again = anew or now != before
        return [
            gr.Dropdown([(_told(each), str(each.folder)) for each in found], value=str(training.folder))
            if again
            else gr.skip(),
            render(
                "steps",
                name=training.name,
                now=steps_of(training),
                stopping=trainings.is_stopping(training.folder),
            ),
            render("progress", one=progress_of(training)) if again else gr.skip(),
            now,
            gr.Button(interactive=training.runs),
            gr.Button(interactive=trainings.can_go_on(training)),
            gr.Button(visible=trainings.can_be_forgotten(training)),
            gr.Timer(active=training.runs),
        ]

    def look_anew(name: str | None) -> Any:
        return look(name, None, anew=True)

    def open_it(name: str | None, before: str | None) -> Any:
        last = next((str(each.folder) for each in trainings.all()), None)
        return last, *look(name if last == before else None, None, anew=True)

    @telling(1)
    def plan_it(data: str | None, *values: Any) -> str:
        from lumora.training.choosing import explained
        from lumora.training.planning.plan import plan as planned_for
        from lumora.training.schema.yaml_files import plain, written

        settings = settings_of(Wishes(*values[:-1]))
        found = planned_for(_data(data), settings=settings)
        choices = [(key, written(plain(value)), how, why) for key, value, how, why in explained(found.chosen)]
        return render("plan", plan=found, choices=choices)

    @telling(len(watched))
    def begin_it(data: str | None, *values: Any) -> Any:
        training = trainings.begin(_data(data), settings_of(Wishes(*values[:-1])), _clean(values[-1]))
        return look(str(training.folder), None, anew=True)

    def changing(change: Callable[[Path], Training | None]) -> Any:
        @telling(len(watched))
        def changed(name: str | None) -> Any:
            if not name:
                raise RunError("Choose a training first.")
            training = change(Path(name))
            return look(training and str(training.folder), None, anew=True)

        return changed

    given = [chosen, *fields]
    chosen.change(_data_chosen, chosen, of)
    plan.click(lambda: notice("A few steps are tried, to measure time and memory …"), None, told).then(
        plan_it, given, [told, planned]
    )
    begin.click(begin_it, given, [told, *watched])
    stop.click(changing(trainings.stop), which, [told, *watched])
    go_on.click(changing(trainings.resume), which, [told, *watched])
    forget.click(changing(trainings.forget), which, [told, *watched])
    which.input(look_anew, which, watched)
    timer.tick(look, [which, seen], watched, show_progress="hidden")
    start_from = fields[8]
    return lambda event: (
        event(open_it, [which, latest], [latest, *watched]),
        event(lambda: gr.Dropdown(["", *map(str, bundle_folders(workshop.runs))]), None, start_from),
    )


def _form(workshop: Workshop) -> tuple[list[Any], gr.Button, gr.Button]:
    """The choices in the order of `Wishes`, and last the training's name; then the buttons."""
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
        start_from = gr.Dropdown(
            ["", *map(str, bundle_folders(workshop.runs))],
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
    name = gr.Textbox("", label="Name", placeholder="as the data are called", elem_id="train-name")
    gr.HTML('<p class="lm-soft">What is left empty is chosen for your data; the plan says how, and why.</p>')
    with gr.Row():
        plan = gr.Button("Plan", elem_id="train-plan-it", min_width=110)
        begin = gr.Button("Start training", variant="primary", elem_id="train-begin", min_width=150)
    return [base, method, epochs, rank, batch, rate, size, limit, start_from, more, name], plan, begin


def _none_begun() -> str:
    return render("empty", text="No training was begun yet.")


def _told(training: Training) -> str:
    return f"{training.name} – {WORDS[training.state].partition(';')[0]}"


def _data_chosen(path: str | None) -> str:
    return render("data_chosen", path=path)


def _data(data: str | None) -> str:
    if not data:
        raise RunError("Open the data first, in the tab Data.")
    return data


def _clean(name: str | None) -> str:
    """A name that a folder may have."""
    return "".join(c if c.isalnum() or c in "-_. " else "-" for c in (name or "")).strip(" .-")
