"""Finished runs that take no training: on small models with some numbers in place of what is learnt."""

from __future__ import annotations

import warnings
from pathlib import Path

from tests.bundle.making import about_of, adapted

from lumora.bundle import write
from lumora.data import open_source
from lumora.errors import LumoraWarning
from lumora.models import load_base
from lumora.training.folder import RunFolder
from lumora.training.recipe import parse_asked, write_recipe
from lumora.training.whereabouts import note_place

SIDE, ALPHA = 32, 2
ROWS = (
    {"epoch": 0, "step": 0, "loss": None, "rate": 1e-4, "is_best": True, "seconds": 0.5},
    {"epoch": 1, "step": 10, "loss": 1.5, "rate": 1e-3, "is_best": True, "seconds": 61.0},
    {"epoch": 2, "step": 20, "loss": 0.75, "rate": 1e-5, "is_best": False, "seconds": 125.0},
)


def made_run(data: Path, model: Path, folder: Path) -> Path:
    """The folder of a run on these data, with a bundle on the model in another folder; what it says is chance."""
    source = open_source(data, near_duplicates_together=False)
    main = "mean_iou" if source.task == "segmentation" else "accuracy"
    asked = {
        "data.path": str(data),
        "data.near_duplicates_together": False,
        "base.name": str(model),
        "train.epochs": 2,
        "train.batch_size": 4,
        "train.best_by": main,
        "pictures.size": SIDE,
        "lora.r": 2,
        "lora.alpha": ALPHA,
    }
    with RunFolder.create(folder) as run:
        write_recipe(parse_asked(asked), run.recipe)
        note_place(run.path, str(data))
        for i, row in enumerate(ROWS):
            run.append_metrics({**row, main: 0.2 + 0.3 * i})
        run.log.write_text("All went well.\n", encoding="utf-8")
        base = load_base(str(model), task=source.task, labels=source.labels.names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LumoraWarning)  # adapters of tiny layers are larger than the layers
            about = about_of(base, SIDE, labels=source.labels, metrics={main: 0.5}, per_class={})
            write(run.bundle, adapted(base, lora_alpha=ALPHA), about)
    return folder
