"""Mistakes that are the data's: their labels and masks are corrected in a file beside the data."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lumora.data.corrections import correct_labels, correct_mask
from lumora.data.labels import Colour, Labels
from lumora.errors import InputError
from lumora.studio.results_view import Examined, meant, true_mask

Array = NDArray[Any]
NOWHERE = "counts nowhere"
"""Stands for pixels that count nowhere, among the classes."""
_PAINTED = 128
"""How opaque a stroke must be to count."""
_PLACES = np.array((1 << 16, 1 << 8, 1), dtype=np.int64)
"""What makes one number of a colour."""


def relabel(looked: Examined, key: str, labels: Sequence[str]) -> Path:
    """Write down that a sample has these labels; return the file of corrections."""
    if not labels and looked.subject.task.name == "classification":
        raise InputError("Choose the label that the picture should have.")
    return correct_labels(_data(looked), key, labels, was=meant(looked.judged_of(key), looked.labels))


def repaint(looked: Examined, key: str, painted: Mapping[str, Any] | None) -> Path:
    """Write down a mask with what was painted on it; return the file of corrections.

    Args:
        looked: the run.
        key: the sample.
        painted: what the editor gives: `layers`, arrays (H, W, 4) of the size of its canvas.
    """
    mask = true_mask(looked, key)
    over = strokes(painted.get("layers") or [] if painted else [], looked.labels, tuple(mask.shape))
    if over is None:
        raise InputError("Nothing was painted. Choose a colour, and paint over what is wrong.")
    mask = torch.where(over >= 0, over.to(mask.dtype), mask)
    return _write(looked, key, mask)


def replace_class(looked: Examined, key: str, old: str | None, new: str | None) -> Path:
    """Write down a mask in which one class has become another; return the file of corrections."""
    if not old or not new:
        raise InputError("Choose both classes.")
    mask = true_mask(looked, key)
    here, there = (_id(looked.labels, name) for name in (old, new))
    if here == there:
        raise InputError("Choose two different classes.")
    if not (mask == here).any():
        raise InputError(f"Nothing in this mask is {old}.")
    return _write(looked, key, torch.where(mask == here, torch.tensor(there, dtype=mask.dtype), mask))


def brush_colours(labels: Labels) -> list[tuple[str, Colour]]:
    """The colours to paint with, and what they mean; no two are alike."""
    taken: dict[Colour, str] = {}
    for name, colour in zip(labels.names, labels.palette(), strict=True):
        taken.setdefault(colour, name)
    free = next(c for c in ((255, 255, 255), (255, 0, 255), (1, 1, 1)) if c not in taken)
    return [*((name, colour) for colour, name in taken.items()), (NOWHERE, free)]


def strokes(layers: Sequence[Array], labels: Labels, size: tuple[int, ...]) -> Tensor | None:
    """What was painted as class ids (H, W) of the mask's size, -1 elsewhere; None where nothing was.

    A stroke is the class whose colour is nearest: its edges are blended. Costs little more than what was painted: each
    colour is looked up once.
    """
    over = torch.full(size, -1, dtype=torch.int64)
    colours = brush_colours(labels)
    known = np.array([colour for _, colour in colours], dtype=np.int64)
    ids = np.array([_id(labels, name) for name, _ in colours])
    for layer in layers:
        rows = (2 * np.arange(size[0]) + 1) * layer.shape[0] // (2 * size[0])
        columns = (2 * np.arange(size[1]) + 1) * layer.shape[1] // (2 * size[1])
        small = layer[rows][:, columns]  # (H, W, 4)
        inked = small[..., 3] >= _PAINTED
        codes, which = np.unique(small[inked][:, :3].astype(np.int64) @ _PLACES, return_inverse=True)
        used = np.stack((codes >> 16, codes >> 8 & 255, codes & 255), axis=1)
        nearest = ((used[:, None] - known) ** 2).sum(-1).argmin(-1)
        over[torch.from_numpy(inked)] = torch.from_numpy(ids[nearest][which])
    return over if bool((over >= 0).any()) else None


def _write(looked: Examined, key: str, mask: Tensor) -> Path:
    return correct_mask(_data(looked), key, _encoded(mask, looked.labels))


def _encoded(mask: Tensor, labels: Labels) -> bytes:
    """A mask as PNG: in the classes' colours where 8 bits have room for all numbers, else in 16-bit grey."""
    from PIL import Image

    file = io.BytesIO()
    if labels.ignore > 255:
        Image.fromarray(mask.numpy().astype(np.uint16)).save(file, "PNG")
        return file.getvalue()
    image = Image.fromarray(mask.numpy().astype(np.uint8))
    colours = [*labels.palette(), *((255, 255, 255) for _ in range(256 - len(labels)))]  # 255, too, has one
    image.putpalette([channel for colour in colours for channel in colour])
    image.save(file, "PNG")
    return file.getvalue()


def _id(labels: Labels, name: str) -> int:
    return labels.ignore if name == NOWHERE else labels.index(name)


def _data(looked: Examined) -> str:
    if not looked.data:
        raise InputError("The data of this run were at hand in Python; there is no place beside them for corrections.")
    return looked.data
