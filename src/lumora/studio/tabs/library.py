"""The tab Library: bundles with their cards, merged, exported, or sent to the Hub."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lumora.studio.html import notice, render
from lumora.studio.library_view import export_bundle, merge_bundle, open_bundle, push_bundle, shelf
from lumora.studio.tabs.answering import Starter, telling
from lumora.studio.workshop import Workshop


def arrange(workshop: Workshop) -> Starter:
    """Lay the tab out; return what looks for bundles again."""
    shown = gr.HTML(render("shelf", shelf=[]), elem_id="library-shelf")
    which = gr.Dropdown(
        [],
        allow_custom_value=True,
        label="Bundle",
        info="One of these, or the folder of another.",
        elem_id="library-which",
    )
    told = gr.HTML(elem_id="library-notice", elem_classes="lm-told")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            state = gr.HTML(elem_id="library-state")
            card = gr.Markdown(elem_id="library-card", elem_classes="lm-prose")
        with gr.Column(scale=2, min_width=300):
            with gr.Accordion("Merge into a plain checkpoint", open=False, elem_id="library-merging"):
                out = gr.Textbox("", label="New folder", placeholder="merged/flowers", elem_id="library-out")
                merging = gr.Button("Merge", elem_id="library-merge")
            with gr.Accordion("Export to ONNX", open=False, elem_id="library-exporting"):
                file = gr.Textbox("", label="New file", placeholder="flowers.onnx", elem_id="library-file")
                exporting = gr.Button("Export", elem_id="library-export")
            with gr.Accordion("Push to the Hub", open=False, elem_id="library-pushing"):
                repository = gr.Textbox("", label="Repository", placeholder="user/name", elem_id="library-repository")
                private = gr.Checkbox(True, label="Only I can see it", elem_id="library-private")
                sure = gr.Checkbox(False, label="It may leave this machine", elem_id="library-sure")
                pushing = gr.Button("Push", elem_id="library-push")

    @telling(2)
    def opened(folder: str | None) -> Any:
        found = open_bundle(folder or "")
        return render("bundle_state", opened=found), found.card

    @telling(1)
    def merged(folder: str | None, place: str) -> Any:
        found = merge_bundle(folder or "", place)
        return f"Merged into {found.folder}, and compared with the bundle. Load it with:\n{found.snippet}"

    @telling(1)
    def exported(folder: str | None, place: str) -> Any:
        found = export_bundle(folder or "", place)
        return f"Exported to {found.path}, and compared with torch by onnxruntime."

    @telling(1)
    def pushed(folder: str | None, to: str, hidden: bool, agreed: bool) -> Any:
        return f"Sent to {push_bundle(folder or '', to, private=hidden, sure=agreed)}"

    def said(work: Any) -> Any:
        def answer(*given: Any) -> str:
            problem, text = work(*given)
            return problem or notice(text)

        return answer

    which.change(opened, which, [told, state, card])
    merging.click(lambda: notice("It is merged, and what was written is compared …"), None, told).then(
        said(merged), [which, out], told
    )
    exporting.click(lambda: notice("It is exported, and what was written is compared …"), None, told).then(
        said(exported), [which, file], told
    )
    pushing.click(lambda: notice("It is verified in a fresh process, then sent …"), None, told).then(
        said(pushed), [which, repository, private, sure], told
    )

    def looked(chosen: str | None) -> Any:
        found = shelf(workshop.runs, [chosen] if chosen else [])
        names = [(one.name, str(one.folder)) for one in found]
        return render("shelf", shelf=found), gr.Dropdown(names, value=chosen or (names[0][1] if names else None))

    return lambda event: event(looked, which, [shown, which])
