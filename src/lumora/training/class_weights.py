"""How much each class counts in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from lumora.data import Source
from lumora.training.loading import part_of
from lumora.training.processes import Processes
from lumora.training.schema.sections import Loss


def class_weights(loss: Loss, source: Source, processes: Processes) -> tuple[float, ...] | None:
    """The weights that are asked for; None where all classes count alike. Balanced ones need the classes counted."""
    asked = loss.class_weights
    if asked is None or asked == "none":
        return None
    if asked != "balanced":
        return tuple(float(weight) for weight in cast("Sequence[float]", asked))
    counts = class_counts(source, "train", processes)
    mean = sum(counts) / len(counts)
    return tuple(mean / max(1, count) for count in counts)


def class_counts(source: Source, split: str, processes: Processes) -> tuple[int, ...]:
    """How many pictures each class has; of a segmentation, how many pixels. Each process counts a part."""
    counts = torch.zeros(len(source.labels), dtype=torch.int64)
    for sample in part_of(source.splits[split], processes):
        if source.task == "segmentation":
            mask = cast("Tensor", sample.mask()).flatten().long()
            mask = mask[(mask >= 0) & (mask < len(counts))]
            counts += torch.bincount(mask, minlength=len(counts))
        else:
            ids = sample.target if isinstance(sample.target, tuple) else (cast("int", sample.target),)
            counts[list(ids)] += 1
    processes.add([counts])
    return tuple(counts.tolist())
