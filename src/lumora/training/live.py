"""A few pictures with what the model says of them: drawn after every epoch, and for the card of the bundle."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lumora.data.durable import write_file
from lumora.data.sample import Sample
from lumora.errors import OutputError
from lumora.training.events import EpochDone, Listener
from lumora.training.report.examining import spread
from lumora.training.setup import Prepared

_HEIGHT = 256
_ON_CARD, _CARD_HEIGHT = 4, 160


class LiveSamples(Listener):
    """Draws the first pictures for validation into `samples/epoch-0003.jpg`, one below the other."""

    def __init__(self, prepared: Prepared, folder: Path, count: int) -> None:
        self._samples = _for_validation(prepared)[:count]
        self._prepared, self._folder = prepared, folder

    def epoch_done(self, event: EpochDone) -> None:
        """Draw them as the model sees them now."""
        from PIL import Image

        if not self._samples:
            return
        drawn = [_drawn(self._prepared, sample, _HEIGHT) for sample in self._samples]
        width = max(picture.shape[2] for picture in drawn)
        page = torch.cat([pad(picture, (0, width - picture.shape[2]), value=255) for picture in drawn], dim=1)
        encoded = io.BytesIO()
        Image.fromarray(page.permute(1, 2, 0).numpy()).save(encoded, "jpeg", quality=90)
        with contextlib.suppress(OutputError):  # a picture less, on a full disk: no reason to end a training
            write_file(self._folder / f"epoch-{event.epoch:04d}.jpg", encoded.getvalue())


def thumbnail(prepared: Prepared) -> Tensor | None:
    """A few pictures from all over the validation, side by side; None where there are none."""
    samples = _for_validation(prepared)
    drawn = [_drawn(prepared, samples[place], _CARD_HEIGHT) for place in spread(len(samples), _ON_CARD)]
    return torch.cat(drawn, dim=2) if drawn else None


def _for_validation(prepared: Prepared) -> Sequence[Sample]:
    return prepared.source.splits.get("validation", ())


@torch.no_grad()
def _drawn(prepared: Prepared, sample: Sample, height: int) -> Tensor:
    """A picture at this height with what the model says of it; the model is left in the modes that it was in."""
    model, work, picture = prepared.model, prepared.work, sample.picture()
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with work.stepper.in_precision():
        outputs: Any = model(prepared.about_nothing().at_size(picture)[None].to(work.stepper.device))
    for module, training in modes.items():
        module.training = training
    small = _at_height(picture, height)
    [prediction] = work.task.predict(outputs, [(int(small.shape[1]), int(small.shape[2]))])
    return work.task.draw(small, prediction)


def _at_height(picture: Tensor, height: int) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    width = max(1, round(picture.shape[2] * height / picture.shape[1]))
    return F.resize(picture, [height, width], antialias=True)
