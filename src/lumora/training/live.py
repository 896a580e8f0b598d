"""A few pictures with what the model says of them, drawn after every epoch."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lumora.data.durable import write_file
from lumora.errors import OutputError
from lumora.tasks import Task
from lumora.training.events import EpochDone, Listener
from lumora.training.setup import Prepared

_HEIGHT = 256


class LiveSamples(Listener):
    """Draws the first pictures for validation into `samples/epoch-0003.jpg`, one below the other."""

    def __init__(self, prepared: Prepared, folder: Path, count: int) -> None:
        self._samples = list(prepared.source.splits.get("validation", ())[:count])
        self._prepared, self._folder = prepared, folder

    def epoch_done(self, event: EpochDone) -> None:
        """Draw them as the model sees them now."""
        from PIL import Image

        if not self._samples:
            return
        drawn = [self._drawn(sample.picture()) for sample in self._samples]
        width = max(picture.shape[2] for picture in drawn)
        page = torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[2]), value=255) for p in drawn], dim=1)
        encoded = io.BytesIO()
        Image.fromarray(page.permute(1, 2, 0).numpy()).save(encoded, "jpeg", quality=90)
        with contextlib.suppress(OutputError):  # a picture less, on a full disk: no reason to end a training
            write_file(self._folder / f"epoch-{event.epoch:04d}.jpg", encoded.getvalue())

    @torch.no_grad()
    def _drawn(self, picture: Tensor) -> Tensor:
        prepared, task = self._prepared, self._prepared.work.task
        model, device = prepared.model, prepared.work.stepper.device
        modes = {module: module.training for module in model.modules()}
        model.eval()
        outputs = model(prepared.about_nothing().at_size(picture)[None].to(device))
        for module, training in modes.items():
            module.training = training
        small = _at_height(picture)
        size = (int(small.shape[1]), int(small.shape[2]))
        return task.draw(small, _one(task, outputs, size))


def _one(task: Task[Any], outputs: Any, size: tuple[int, int]) -> Any:
    return task.predict(outputs, [size])[0]


def _at_height(picture: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    width = max(1, round(picture.shape[2] * _HEIGHT / picture.shape[1]))
    return F.resize(picture, [_HEIGHT, width], antialias=True)
