"""The editor in which a mask is painted on."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from lumora.data.labels import Colour
from lumora.studio.relabelling import brush_colours
from lumora.studio.results_view import Examined, true_mask
from lumora.tasks.drawing import overlay
from lumora.training.report.thumbnails import shrunk

_SIDE = 640
_LONGEST = 1024
"""A larger picture is shown smaller; what is painted is brought to the mask's size."""
_OPACITY = 0.45


def editor() -> Any:
    """An editor without a picture."""
    return gr.ImageEditor(
        type="numpy",
        format="png",
        label="Paint over what is wrong",
        sources=[],
        transforms=[],
        layers=False,
        eraser=gr.Eraser(),
        canvas_size=(_SIDE, _SIDE),
        elem_id="results-editor",
    )


def filled(looked: Examined, key: str) -> Any:
    """The editor with a sample's picture, its mask over it, and a brush for each class."""
    subject, judged = looked.subject, looked.judged_of(key)
    assert subject.validation is not None
    picture, mask = subject.validation.pictures.samples[judged.place].picture(), true_mask(looked, key)
    labels = looked.labels
    over = overlay(picture, mask, labels.palette(), _OPACITY, labels.ignore)
    drawn = np.asarray(shrunk(over, _LONGEST))
    colours: list[str | tuple[str, float]] = [_text(colour) for _, colour in brush_colours(labels)]
    height, width = drawn.shape[:2]
    return gr.ImageEditor(
        value={"background": drawn, "layers": [], "composite": None},
        brush=gr.Brush(default_size=max(4, min(height, width) // 16), colors=colours, color_mode="fixed"),
        canvas_size=(width, height),
    )


def _text(colour: Colour) -> str:
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"
