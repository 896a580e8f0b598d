"""Draw `predictions.jpg`: unseen scenes, their masks, and what a model says.

    python -m docs.images.predictions

Trains first, as `lumora demo segmentation` does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

import lumora
from lumora.data import Labels
from lumora.data.scenes import SceneSample, scenes, write_scenes
from lumora.predict import Predictor
from lumora.tasks.drawing import overlay

LEARNT, SIDE = 160, 192
SHOWN = (5, 11, 23, 26, 40, 51)
GAP, OPACITY = 6, 0.65


def trained(folder: Path) -> Predictor:
    """The bundle of a training on other scenes."""
    data = folder / "landscapes"
    write_scenes(data, LEARNT, size=128, task="segmentation")
    settings = {"train.epochs": 10, "pictures.size": 128}
    return lumora.load(
        lumora.finetune(data, out=folder / "run", settings=settings).bundle
    )


def column(sample: SceneSample, predictor: Predictor, labels: Labels) -> Tensor:
    """A scene, the scene through its mask, and through what is predicted."""
    picture, mask = sample.picture(), sample.mask()
    said = predictor.predict(picture).mask
    palette = labels.palette()
    rows = [
        picture,
        *(overlay(picture, m, palette, OPACITY) for m in (mask, said)),
    ]
    return torch.cat(
        [pad(row, (0, GAP, 0, GAP), value=255) for row in rows], dim=1
    )


def main() -> None:
    """Write the picture beside this file."""
    unseen = scenes(80, size=SIDE, seed=7, task="segmentation")
    samples = unseen.splits["train"]
    with tempfile.TemporaryDirectory() as folder:
        predictor = trained(Path(folder))
        columns = [column(samples[i], predictor, unseen.labels) for i in SHOWN]
    page = torch.cat(columns, dim=2)[:, :-GAP, :-GAP]
    whole = Image.fromarray(page.permute(1, 2, 0).numpy())
    whole.save(Path(__file__).with_suffix(".jpg"), quality=88)


if __name__ == "__main__":
    main()
