"""Finished runs that take no training: the model tells colours apart, and the pictures have colours."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lumora.bundle import About, BaseReference, write
from lumora.bundle.about import installed_versions
from lumora.data import Labels, Source
from lumora.data.transforms import generator_for
from lumora.models import Preprocessing, load_base
from lumora.training.folder import RunFolder
from lumora.training.origins import write_origins
from lumora.training.recipe import asked_of, parse_asked, recipe_hash, write_recipe
from lumora.training.rules.base import Origin

SIDE = 32
SEES_AS_IT_IS = Preprocessing(resize=(SIDE, SIDE), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def colours(count: int) -> Tensor:
    """A colour for each class (K, 3), from 0 to 1."""
    return torch.rand(count, 3, generator=generator_for(0, count, "colours"))


class TellsColours(nn.Module):
    """Says of a picture, or of each of its places, which class's colour is nearest."""

    def __init__(self, count: int, places: bool) -> None:
        super().__init__()
        self.places = places
        self.score = nn.Conv2d(3, count, 1)
        centres = colours(count)
        with torch.no_grad():
            self.score.weight.copy_(8 * 2 * centres[:, :, None, None])
            self.score.bias.copy_(8 * (-centres.square().sum(1) - 0.8))

    def forward(self, pixel_values: Tensor) -> Tensor:
        if self.places:
            return self.score(nn.functional.avg_pool2d(pixel_values, 4))
        return self.score(pixel_values.mean((2, 3), keepdim=True)).flatten(1)


@dataclass(frozen=True)
class Painted:
    """A picture with the colour of its class, or of several in stripes; not quite: a number says how far off."""

    number: int
    classes: int
    kind: str = "classification"
    off: float = 0.15
    path: Path | None = None

    @property
    def key(self) -> str:
        return f"painted/{self.number:05}.png"

    @property
    def target(self) -> int | tuple[int, ...] | None:
        first = self.number % self.classes
        if self.kind == "multilabel":
            return tuple(sorted({first, self.number // 2 % self.classes}))
        return None if self.kind == "segmentation" else first

    def ids(self) -> Tensor:
        """The class of each place."""
        ids = torch.full((SIDE, SIDE), self.number % self.classes, dtype=torch.uint8)
        if self.kind == "segmentation":
            ids[SIDE // 2 + 1 :] = (self.number * 7 + 1) % self.classes
            ids[:, : self.number % 9] = 255
        return ids

    def picture(self) -> Tensor:
        generator = generator_for(1, self.number, "off")
        whole = self.off * torch.randn(3, 1, 1, generator=generator)
        noise = 0.04 * torch.randn(3, SIDE, SIDE, generator=generator)
        ids = self.ids().long()
        painted = colours(self.classes)[torch.where(ids == 255, 0, ids)].permute(2, 0, 1)
        return ((painted + whole + noise).clamp(0, 1) * 255).round().to(torch.uint8)

    def mask(self) -> Tensor | None:
        return self.ids() if self.kind == "segmentation" else None


def source(kind: str, names: tuple[str, ...], validation: int = 40, train: int = 60, off: float = 0.15) -> Source:
    """Pictures for training and for validation; `off` is how hard they are."""
    splits = {
        "train": [Painted(i, len(names), kind, off) for i in range(train)],
        "validation": [Painted(i, len(names), kind, off) for i in range(train, train + validation)],
    }
    return Source(kind, Labels(names), {k: v for k, v in splits.items() if v}, "painted pictures", ("They are drawn.",))


ROWS = (
    {"epoch": 0, "step": 0, "loss": None, "rate": 1e-4, "is_best": True, "seconds": 0.5},
    {"epoch": 1, "step": 10, "loss": 1.5, "rate": 1e-3, "is_best": True, "seconds": 61.0},
    {"epoch": 2, "step": 20, "loss": 0.75, "rate": 0.0, "is_best": False, "seconds": 125.0},
)


def made_run(folder: Path, data: Source) -> tuple[RunFolder, nn.Module]:
    """The folder of a finished run on such data, and its base, which has no name."""
    masked = data.task == "segmentation"
    main = {"classification": "accuracy", "multilabel": "macro_f1", "segmentation": "mean_iou"}[data.task]
    labels = data.labels.names
    base = load_base(
        TellsColours(len(labels), masked), task=data.task, labels=labels, heads=["score"], preprocessing=SEES_AS_IT_IS
    )
    recipe = parse_asked({"train.method": "head", "train.epochs": 2, "base.head": "auto", "lora.targets": "a,b<b>c"})
    about = About(
        task=data.task,
        labels=data.labels,
        preprocessing=SEES_AS_IT_IS,
        size=(SIDE, SIDE),
        base=dataclasses.replace(BaseReference.of(base), name="tells colours"),
        method="head",
        threshold=0.5 if data.task == "multilabel" else None,
        recipe_hash=recipe_hash(recipe),
        versions=installed_versions(),
    )
    with RunFolder.create(folder) as run:
        write_recipe(recipe, run.recipe)
        write_origins({key: Origin("asked", "asked for") for key in asked_of(recipe)}, run.origins)
        for i, row in enumerate(ROWS):
            run.append_metrics({**row, **({main: 0.2 + 0.3 * i} if "validation" in data.splits else {})})
        run.log.write_text("All went well.\nAll went well.\n", encoding="utf-8")
        write(run.bundle, base.module, about)
    return run, TellsColours(len(labels), masked)
