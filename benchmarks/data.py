"""Training samples a second from 500-pixel JPEGs: with Lumora's transforms and cache, and as the public guides do it.

    python benchmarks/data.py                                  # every row, on this machine
    python benchmarks/data.py --rounds 5 --out benchmarks/results/data-cpu.md

Guide 1 is PEFT's guide to image classification: Pillow pictures decoded every time, torchvision's `RandomResizedCrop`,
`RandomHorizontalFlip`, `ToTensor`, `Normalize`. Guide 2 is PEFT's guide to semantic segmentation: `ColorJitter`, then
transformers' SegFormer processor. Both as transforms of a dataset of `datasets`, as the guides have them. What is
measured is the time from one finished batch to the next, through a loader, with nothing done to the batches. All
arms of a row take turns in one process, so that they see the same machine; each figure is the fastest round. A round is
an epoch; Lumora's first one, which decodes and fills the cache, is shown by itself.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Say, command, machine
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from lumora.data import Cache, Coding, Labels, Loader, Pictures, StoredSample
from lumora.data.content import InFile
from lumora.data.transforms import (
    ColourJitter,
    Compose,
    Normalise,
    Resize,
    Transform,
    classification_train,
    segmentation_train,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURES = 384
JITTER = ColourJitter(0.25, 0.25, 0.25, 0.1)


def photographs(folder: Path) -> list[Path]:
    """500 × 375 JPEGs cut from the photographs that come with scikit-image and scikit-learn, each with a mask."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    whole = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), *load_sample_images().images]
    random = np.random.default_rng(0)
    paths: list[Path] = []
    for i in range(PICTURES):
        photograph = Image.fromarray(whole[i % len(whole)])
        width = int(photograph.width * random.uniform(0.6, 1.0))
        height = min(int(width * 0.75), photograph.height)
        left = int(random.integers(photograph.width - width + 1))
        top = int(random.integers(photograph.height - height + 1))
        picture = photograph.crop((left, top, left + width, top + height)).resize((500, 375))
        paths.append(folder / f"{i}.jpg")
        picture.save(paths[-1], quality=90)
        # Regions of similar brightness: as ragged as annotated ones.
        smooth = picture.convert("L").resize((50, 38)).resize((500, 375), Image.Resampling.BICUBIC)
        Image.fromarray((np.asarray(smooth) // 2).astype(np.uint8)).save(folder / f"{i}.png")
    return paths


def guide_1(paths: list[Path]) -> Dataset[Any]:
    """PEFT's guide to image classification, with its own transform on a dataset of `datasets`."""
    transform = T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)])

    def preprocess(examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        examples["pixel_values"] = [transform(picture.convert("RGB")) for picture in examples["image"]]
        return examples

    labels = [i % 101 for i in range(len(paths))]
    return _dataset({"image": [str(path) for path in paths], "label": labels}, preprocess)


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """As guide 1 writes it."""
    return {
        "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
        "labels": torch.tensor([example["label"] for example in examples]),
    }


def guide_2(paths: list[Path]) -> Dataset[Any]:
    """PEFT's guide to semantic segmentation; pictures of a batch go through the processor together, as there."""
    from transformers import SegformerImageProcessor

    processor = SegformerImageProcessor(do_reduce_labels=True)
    jitter = T.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.1)

    def preprocess(examples: dict[str, list[Any]]) -> Any:
        return processor([jitter(picture) for picture in examples["image"]], examples["annotation"])

    masks = [str(path.with_suffix(".png")) for path in paths]
    return _dataset({"image": [str(path) for path in paths], "annotation": masks}, preprocess)


def _dataset(columns: dict[str, list[Any]], preprocess: Callable[[dict[str, list[Any]]], Any]) -> Any:
    import datasets

    made = datasets.Dataset.from_dict(columns)
    for name in {"image", "annotation"} & columns.keys():
        made = made.cast_column(name, datasets.Image())
    made.set_transform(preprocess)
    return made


def collate_2(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """As transformers' `Trainer` does."""
    return {name: torch.stack([torch.as_tensor(e[name]) for e in examples]) for name in ("pixel_values", "labels")}


def theirs(dataset: Dataset[Any], batch: int, workers: int, collate: Any) -> Callable[[], Iterable[Any]]:
    loader = DataLoader(
        dataset, batch, shuffle=True, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )
    return lambda: loader


def ours(paths: list[Path], transform: Transform, masks: bool, batch: int, workers: int) -> Callable[[], Iterable[Any]]:
    coding = Coding(Labels(tuple(map(str, range(150)))), reduce=True)
    samples = [
        StoredSample(path.name, InFile(path), mask_content=InFile(path.with_suffix(".png")), coding=coding)
        if masks
        else StoredSample(path.name, InFile(path), target=i % 101)
        for i, path in enumerate(paths)
    ]
    loader = Loader(Pictures(samples, transform, cache=Cache()), batch, workers=workers)
    return lambda: loader


def seconds(batches: Callable[[], Iterable[Any]]) -> tuple[float, float]:
    """Of one epoch: by the clock, and of this process's work."""
    start, work = time.perf_counter(), time.process_time()
    for _ in batches():
        pass
    return time.perf_counter() - start, time.process_time() - work


def rows(paths: list[Path], workers: int) -> dict[str, dict[str, Callable[[], Iterable[Any]]]]:
    same_steps = Compose((Resize((512, 512)), JITTER, Normalise(MEAN, STD)))
    return {
        "classification, 224²": {
            "guide 1": theirs(guide_1(paths), 32, workers, collate),
            "lumora, the same steps": ours(paths, classification_train(224, MEAN, STD), False, 32, workers),
        },
        "segmentation, 512²": {
            "guide 2": theirs(guide_2(paths), 8, workers, collate_2),
            "lumora, the same steps": ours(paths, same_steps, True, 8, workers),
            "lumora, with scale jitter and flips": ours(paths, segmentation_train(512, MEAN, STD), True, 8, workers),
        },
    }


def measured(arms: dict[str, Callable[[], Iterable[Any]]], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Of every arm: samples a second in the first epoch, in the fastest later one, and milliseconds of work."""
    first = {name: seconds(arm)[0] for name, arm in arms.items()}
    later: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            later[name].append(seconds(arm))
    return {
        name: (PICTURES / first[name], PICTURES / min(times)[0], min(work for _, work in times) / PICTURES * 1e3)
        for name, times in later.items()
    }


def report(say: Say, rounds: int) -> None:
    say("# Training samples a second\n")
    say(f"{machine('torchvision', 'pillow', 'transformers')}, in each process.")
    say(f"{PICTURES} JPEGs of 500 × 375 pixels; fastest of {rounds} epochs after the first.\n")
    say("| | workers | arm | first epoch | second epoch on | of the guide | CPU ms a sample | of the guide |")
    say("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder))
        for workers in (0, 2):
            for title, arms in rows(paths, workers).items():
                found = measured(arms, rounds)
                _, peer, peer_work = next(iter(found.values()))
                for name, (first, later, work) in found.items():
                    # Of worker processes the work is not known here.
                    own = f"{work:.2f} | {work / peer_work:.2f}" if workers == 0 else " | "
                    speeds = f"{first:.0f} | {later:.0f} | {later / peer:.2f}"
                    say(f"| {title} | {workers} | {name} | {speeds} | {own} |")
    say("| | | *must be* | | | ≥ 4 | | |")


if __name__ == "__main__":
    command(__doc__, report, rounds=5, threads=1)
