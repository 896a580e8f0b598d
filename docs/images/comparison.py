"""Draw `comparison.jpg`: what `lumora predict A B --compare` draws of a scene.

    python -m docs.images.comparison

Trains twice first: adapters, and the head alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

import lumora
from lumora.data.scenes import scenes, write_scenes
from lumora.predict.comparing import Compared

LEARNT, SIDE, SHOWN = 160, 192, 23


def main() -> None:
    """Write the picture beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "landscapes")
        write_scenes(data, LEARNT, size=128, task="segmentation")
        settings = {"train.epochs": 10, "pictures.size": 128}
        compared = Compared(
            {
                f"runs/{method}/bundle": lumora.load(
                    lumora.finetune(
                        data,
                        out=Path(folder, method),
                        settings={**settings, "train.method": method},
                    ).bundle
                )
                for method in ("lora", "head")
            }
        )
    unseen = scenes(80, size=SIDE, seed=7, task="segmentation")
    picture = unseen.splits["train"][SHOWN].picture()
    said = {
        name: predictor.predict(picture)
        for name, predictor in compared.predictors.items()
    }
    drawn = compared.drawn(picture, said)
    whole = Image.fromarray(drawn.permute(1, 2, 0).numpy())
    whole.save(Path(__file__).with_suffix(".jpg"), quality=88)


if __name__ == "__main__":
    main()
