"""Masks with which something is wrong, over the pictures that they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lumora.data import read_picture
from lumora.data.doctor.records import Record, Records
from lumora.data.labels import Colour, Labels
from lumora.data.masks import Coding
from lumora.data.reading import read_header, read_raw_mask, upright
from lumora.errors import MaskError

Array = NDArray[Any]
NO_LABEL: Colour = (255, 0, 200)
"""Numbers that belong to no label."""
_OPACITY, _STRIKING = 0.55, 0.9
_MOST = 1024
"""Different numbers that are told apart; a mask with more is none."""


def over_picture(record: Record, records: Records, *, by_number: bool) -> Tensor:
    """A sample's picture under its mask as that is written; beside it where it is of another size.

    Args:
        record: the sample.
        records: the data that it is of.
        by_number: draw the colours of the classes that the numbers in it stand for, whatever its palette says.
    """
    assert record.mask is not None
    picture = read_picture(record.picture, limits=records.limits)
    raw, header = read_raw_mask(record.mask, limits=records.limits), read_header(record.picture)
    if raw.values.ndim == 3:
        colours, seen = raw.values.astype(np.float32), np.full(raw.values.shape[:2], _OPACITY, np.float32)
    elif raw.palette is not None and not by_number and int(raw.values.max()) < len(raw.palette):
        colours, seen = raw.palette[raw.values].astype(np.float32), np.full(raw.values.shape, _OPACITY, np.float32)
    else:
        colours, seen = _of_numbers(raw.values, records.coding)
    drawn = torch.from_numpy(np.ascontiguousarray(np.concatenate((colours, seen[..., None]), axis=2))).permute(2, 0, 1)
    turned_alike = raw.orientation == 1 and tuple(drawn.shape[1:]) == (header.height, header.width)
    drawn = upright(drawn, header.orientation if turned_alike else raw.orientation)
    through, opacity = drawn[:3], drawn[3:]
    if drawn.shape[1:] == picture.shape[1:]:
        return (picture.float() * (1 - opacity) + through * opacity).round().to(torch.uint8)
    alone = torch.where(opacity > 0, through, 255.0).to(torch.uint8)
    return _beside(picture, alone)


def _of_numbers(values: Array, coding: Coding | None) -> tuple[Array, Array]:
    """The colours (H, W, 3) of numbers, and how opaque (H, W) they are drawn."""
    numbers, places = np.unique(values, return_inverse=True)
    colours, seen = np.empty((len(numbers), 3), np.float32), np.full(len(numbers), _STRIKING, np.float32)
    colours[:] = NO_LABEL
    labels = Labels(tuple(map(str, range(len(numbers[:_MOST]))))) if coding is None else coding.labels
    palette = labels.palette()
    for i, number in enumerate(numbers[:_MOST]):
        at = i if coding is None else _id(int(number), coding)
        if at is not None:
            nowhere = coding is not None and at == coding.labels.ignore
            colours[i], seen[i] = (255, 255, 255) if nowhere else palette[at], 0 if nowhere else _OPACITY
    places = places.reshape(values.shape)
    return colours[places], seen[places]


def _id(number: int, coding: Coding) -> int | None:
    """The class that a number stands for; None for none."""
    try:
        return int(coding.ids_of_numbers(np.array([[number]]), "")[0, 0])
    except MaskError:
        return None


def _beside(left: Tensor, right: Tensor) -> Tensor:
    """Two pictures side by side, on white."""
    height, gap = max(left.shape[1], right.shape[1]), max(2, left.shape[2] // 40)
    page = torch.full((3, height, left.shape[2] + gap + right.shape[2]), 255, dtype=torch.uint8)
    page[:, : left.shape[1], : left.shape[2]] = left
    page[:, : right.shape[1], left.shape[2] + gap :] = right
    return page
