"""The mask of a large picture into a file, without ever holding it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lumora.data.labels import Labels
from lumora.predict.files import Content, encoded_drawing
from lumora.predict.overview import Overview
from lumora.predict.plain_values import areas
from lumora.predict.png import PngMask
from lumora.predict.tiles.mask import LargeMask
from lumora.tasks.drawing import with_legend


def write_large(mask: LargeMask, labels: Labels, path: Path, line: dict[str, Any], *, overlay: bool) -> Content:
    """Predict a large picture's mask into a PNG file; what is to be written of it beside that.

    Costs beside those of the mask: the overlay is drawn on a picture of at most 2048 pixels.

    Args:
        mask: of the picture.
        labels: the names and colours of the classes.
        path: the file.
        line: what is said of the picture already.
        overlay: whether to draw one.
    """
    counts = torch.zeros(len(labels), dtype=torch.int64)
    overview = Overview(mask.size)
    with PngMask(path, mask.size, labels) as file:
        for strip in mask.strips():
            file.write(strip.classes)
            counts += torch.bincount(strip.classes.flatten().long(), minlength=len(labels))
            if overlay:
                overview.add(strip)
    grid = mask.large.grid
    tiles = {"height": grid.tile[0], "width": grid.tile[1], "overlap": grid.columns.overlap, "count": len(grid)}
    values = {**line, **areas(counts, mask.size, labels), "tiles": tiles}
    drawn = encoded_drawing(with_legend(*overview.drawn(), labels)) if overlay else None
    return Content(values, path, drawn)
