"""The tab Try: drop a picture, and see what bases and adapters say of it side by side."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from lumora.studio.found import bundle_folders
from lumora.studio.html import render
from lumora.studio.library_view import name_of
from lumora.studio.tabs.answering import Starter, telling
from lumora.studio.trying import Tried, drawn, try_picture, write_answers
from lumora.studio.workshop import Workshop

_FETCH = "() => document.querySelector('#try-file').click()"
"""Fetches the archive once it is written: a button of Gradio's fetches only what was there before it was pressed."""


def arrange(workshop: Workshop) -> Starter:
    """Lay the tab out; return what looks for bundles again."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            picture = gr.Image(
                type="filepath",
                image_mode=None,  # the file itself, and not a copy that loses something
                label="Picture",
                sources=["upload", "clipboard"],
                height=300,
                elem_id="try-picture",
                alt_text="the picture to try",
            )
            bundles = gr.Dropdown(
                [],
                multiselect=True,
                allow_custom_value=True,
                label="Bundles",
                info="Those of your trainings, or the path of another.",
                elem_id="try-bundles",
            )
            with_base = gr.Checkbox(True, label="Show the base without adapters too", elem_id="try-base")
            strength = gr.Slider(0, 2, 1, step=0.05, label="Strength of the adapters", elem_id="try-strength")
            opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of masks", elem_id="try-opacity")
            start = gr.Button("Predict", variant="primary", elem_id="try-start")
            download = gr.Button("Download", visible=False, elem_id="try-download")
            file = gr.DownloadButton("The archive", visible="hidden", elem_id="try-file")
        with gr.Column(scale=2, min_width=320):
            told = gr.HTML(elem_id="try-notice", elem_classes="lm-told")
            shown = gr.HTML(render("empty", text="Nothing was tried yet."), elem_id="try-answers")
    said = gr.State(None)
    place = gr.State(None, delete_callback=_remove)  # where this page's archive lies

    @telling(3)
    def answer(file: str | None, chosen: list[str] | None, much: float, base: bool, seen: float) -> Any:
        tried = try_picture(workshop, file, chosen or [], much, with_base=base)
        return tried, render("tried", answers=drawn(tried, seen)), gr.Button(visible=True)

    def answer_again(before: Tried | None, *given: Any) -> Any:
        return answer(*given) if before is not None else [gr.skip() for _ in outputs]

    @telling(1)
    def draw_again(tried: Tried | None, seen: float) -> Any:
        return render("tried", answers=drawn(tried, seen)) if tried is not None else gr.skip()

    @telling(2)
    def pack(tried: Tried, seen: float, where: str | None) -> Any:
        where = where or tempfile.mkdtemp(dir=workshop.scratch)
        return str(write_answers(tried, seen, Path(where) / "predictions.zip")), where

    inputs = [picture, bundles, strength, with_base, opacity]
    outputs = [told, said, shown, download]
    start.click(answer, inputs, outputs)
    strength.input(answer_again, [said, *inputs], outputs, trigger_mode="always_last", show_progress="minimal")
    opacity.input(draw_again, [said, opacity], [told, shown], trigger_mode="always_last", show_progress="hidden")
    download.click(lambda: None, None, file).then(pack, [said, opacity, place], [told, file, place]).then(
        None, None, None, js=_FETCH
    )

    def looked(chosen: list[str] | None) -> Any:
        found = [(name_of(path), str(path)) for path in bundle_folders(workshop.runs)]
        return gr.Dropdown(found, value=chosen or [path for _, path in found[:1]])

    return lambda event: event(looked, bundles, bundles)


def _remove(place: str | None) -> None:
    if place is not None:
        shutil.rmtree(place, ignore_errors=True)
