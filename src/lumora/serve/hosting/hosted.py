"""A bundle that is ready to compute, alone or in company."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lumora.bundle import About
from lumora.models import Preprocessing
from lumora.predict.evaluating import task_of
from lumora.predict.predictor import Prediction
from lumora.serve.hosting.addition import Addition
from lumora.serve.hosting.shared import SharedBase
from lumora.tasks import Task
from lumora.tasks.base import logits_of


class Hosted:
    """A bundle in a pool: on a base that it shares with others, or with a model for itself.

    Args:
        name: what the pool calls it.
        version: changes when the bundle's files do.
        about: what it says of itself.
        model: the base that it shares and what it adds, or its own model.
        why_alone: the reason, where it has one for itself.
    """

    def __init__(
        self,
        name: str,
        version: str,
        about: About,
        model: tuple[SharedBase, Addition] | nn.Module,
        why_alone: str | None = None,
    ) -> None:
        self.name, self.version, self.about, self.why_alone = name, version, about, why_alone
        self.shared = None if isinstance(model, nn.Module) else model[0]
        self.addition = None if isinstance(model, nn.Module) else model[1]
        self.own = model if isinstance(model, nn.Module) else None
        self.task: Task[Prediction] = task_of(about)
        self.preprocessing: Preprocessing = about.at_size
        kept = self.preprocessing
        self.company: Hashable = (
            (id(self.shared), about.size, kept.mean, kept.std, kept.rescale, kept.bgr)
            if self.shared is not None
            else id(self)
        )
        """Bundles with the same are computed together."""

    @cached_property
    def bytes(self) -> int:
        """The memory that it takes, a shared base left out."""
        if self.addition is not None:
            return self.addition.bytes
        assert self.own is not None
        return sum(t.numel() * t.element_size() for t in {*self.own.parameters(), *self.own.buffers()})


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as its bundle's model sees it."""

    hosted: Hosted
    pixels: Tensor
    """`uint8` (3, h, w), resized and cropped."""
    size: tuple[int, int]
    """Height and width of the picture itself."""


@dataclass(frozen=True, eq=False)
class Computed:
    """What was computed of a picture together with others."""

    seen: Seen
    said: Prediction | Tensor
    """Labels; or, where a mask is to be made, the model's logits (1, classes, h, w), smaller than the picture."""

    def prediction(self) -> Prediction:
        """What the bundle says. A mask is made here: that takes the longer the larger the picture is."""
        if not isinstance(self.said, Tensor):
            return self.said
        [mask] = self.seen.hosted.task.predict(self.said, [self.seen.size])
        return mask


def compute(batch: Sequence[Seen]) -> list[Prediction]:
    """The predictions of a batch whose bundles are in the same company, in its order."""
    return [one.prediction() for one in compute_together(batch)]


def compute_together(batch: Sequence[Seen]) -> list[Computed]:
    """The same without what is each picture's own work, and may be large: masks of the pictures' sizes."""
    first = batch[0].hosted
    pixels = first.preprocessing.normalise(torch.stack([seen.pixels for seen in batch]).to(_device(first)))
    logits = _logits(first, pixels, batch)
    rows: dict[Hosted, list[int]] = {}
    for i, seen in enumerate(batch):
        rows.setdefault(seen.hosted, []).append(i)
    said: dict[int, Prediction | Tensor] = {}
    for hosted, own in rows.items():
        part = logits[own, : len(hosted.about.labels)]
        said |= zip(own, _said(hosted, part, [batch[i].size for i in own]), strict=True)
    return [Computed(seen, said[i]) for i, seen in enumerate(batch)]


def _said(hosted: Hosted, logits: Tensor, sizes: Sequence[tuple[int, int]]) -> Sequence[Prediction | Tensor]:
    if hosted.about.task != "segmentation":
        return hosted.task.predict(logits, sizes)
    logits.flatten()[0].item()  # waits until a GPU has them
    return logits.split(1)


def _logits(first: Hosted, pixels: Tensor, batch: Sequence[Seen]) -> Tensor:
    if first.shared is not None:
        additions = [seen.hosted.addition for seen in batch]
        return first.shared.logits(pixels, [addition for addition in additions if addition is not None])
    assert first.own is not None
    like = next((p for p in first.own.parameters() if p.is_floating_point()), pixels)
    with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        return logits_of(first.own(pixels.to(like.dtype)))


def _device(hosted: Hosted) -> torch.device:
    if hosted.shared is not None:
        return hosted.shared.device
    assert hosted.own is not None
    return next((p.device for p in hosted.own.parameters()), torch.device("cpu"))
