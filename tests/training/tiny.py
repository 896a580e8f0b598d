"""Whole trainings that take a second: pictures as files, a model of a few thousand weights, what is asked of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.training.small import NAMES, Drawn, Sees
from torch import Tensor, nn


def sees() -> Sees:
    """A model that tells the colours of pictures, as `python:tests.training.tiny:sees` names it."""
    torch.manual_seed(1)
    return Sees(masked=False)


def sees_otherwise() -> Sees:
    """The same with other weights."""
    torch.manual_seed(2)
    return Sees(masked=False)


def sees_places() -> Sees:
    """The same for places."""
    torch.manual_seed(1)
    return Sees(masked=True)


def watched(see: Callable[[nn.Module, Tensor], None], masked: bool = False) -> Sees:
    """The same, calling `see` with the model and the pictures before each forward pass; in copies, too."""

    class Watched(Sees):
        def forward(self, pixel_values: Tensor) -> Tensor:
            see(self, pixel_values)
            return super().forward(pixel_values)

    torch.manual_seed(1)
    return Watched(masked)


def save_pictures(root: Path, count: int = 15) -> Path:
    """Drawn pictures as files: in class folders (`classes`), and with masks (`masked`)."""
    for i in range(count):
        picture = Image.fromarray(np.asarray(Drawn(i).picture().permute(1, 2, 0))).resize((40, 40))
        (root / "classes" / NAMES[i % 3]).mkdir(parents=True, exist_ok=True)
        picture.save(root / "classes" / NAMES[i % 3] / f"{i}.png")
        for kind in ("images", "masks"):
            (root / "masked" / kind).mkdir(parents=True, exist_ok=True)
        picture.save(root / "masked" / "images" / f"{i}.png")
        mask = Image.fromarray(np.asarray(Drawn(i, masked=True).mask())).resize((40, 40), Image.Resampling.NEAREST)
        mask.save(root / "masked" / "masks" / f"{i}.png")
    (root / "masked" / "labels.txt").write_text("\n".join(("rest", *NAMES[:2])) + "\n")
    return root


def settings(**more: Any) -> dict[str, Any]:
    """What is asked of a training of `sees()` that takes a second; `train__epochs=1` for `train.epochs`."""
    usual = {
        "train.epochs": 2,
        "train.batch_size": 4,
        "pictures.size": 32,
        "lora.r": 2,
        "run.live_samples": 0,
        "run.checkpoint_every": 0.001,
    }
    return usual | {key.replace("__", "."): value for key, value in more.items()}


def weights_of(folder: Path) -> dict[str, Tensor]:
    """What a run's bundle adds to its base."""
    [file] = [*(folder / "bundle").glob("adapter_model.safetensors"), *(folder / "bundle").glob("weights.safetensors")]
    return load_file(file)


def assert_same(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """The same tensors, bit for bit."""
    assert expected.keys() == found.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []
