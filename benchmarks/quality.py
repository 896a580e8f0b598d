"""How good adapters get: Lumora's default recipe beside its other ways of learning, and the public guides' with PEFT.

    python benchmarks/quality.py                          # every row
    python benchmarks/quality.py digits --seeds 1         # one of them, quickly
    python benchmarks/quality.py --out benchmarks/results/quality-cpu.md

All arms begin with the embedded ImageNet base (EfficientNet-Lite0), see the same training pictures for the same number
of epochs, and are judged on the same other pictures, by the best epoch. Lumora's arms are `lumora.finetune` with
nothing set but data, size, epochs and seed (and that digits are not mirrored). The guides' arms are the real PEFT and
transformers' `Trainer` with the settings that PEFT's guides print (image classification: r=16, dropout 0.1, rate 5e-3,
`RandomResizedCrop` and flips; semantic segmentation: r=32, rate 5e-4, biases, colour jitter), their adapters on the
base's 1×1 convolutions as in the guide to timm's models; their batch is the guide's 4 for segmentation, and Lumora's
for classification, where 128 would leave one or two steps in an epoch. What is shown is the mean over the seeds with
its 95 % interval, and the seconds of training with its evaluations.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from measuring import Say, machine, written
from torch import Tensor, nn
from torchvision import transforms as T

from lumora.data import Source, open_source
from lumora.models import load_base
from lumora.training.comparing import METHODS, learn

Task = Literal["classification", "segmentation"]
POINTWISE = r".*\.(conv_pw|conv_pwl)"
"""The 1×1 convolutions of the embedded base."""
STUDENT = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}
"""Half the width of a 95 % interval in standard errors, by the number of seeds."""


@dataclass(frozen=True)
class Row:
    """Some data, and how long is learnt from them."""

    title: str
    task: Task
    make: Callable[[Path], object]
    epochs: int
    size: int
    settings: dict[str, Any] = field(default_factory=dict)


def _scenes(task: Task, count: int, size: int, learnt: int) -> Callable[[Path], object]:
    """Scenes, of which so many are learnt from, and enough are left to tell arms apart."""
    from lumora.data.scenes import write_scenes

    def make(folder: Path) -> None:
        write_scenes(folder, count, size=size, task=task)
        train = sorted((folder / ("images/train" if task == "segmentation" else "train")).rglob("*.jpg"), key=_number)
        for picture in train[learnt:]:
            picture.unlink()
            (folder / "masks/train" / f"{picture.stem}.png").unlink(missing_ok=True)

    return make


def _number(picture: Path) -> str:
    return picture.stem


def _digits(folder: Path) -> None:
    """The handwritten digits of scikit-learn, 8 × 8 pixels enlarged, in class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for i, (values, digit) in enumerate(zip(found.images, found.target, strict=True)):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((values * 15.9).astype(np.uint8))
        picture.resize((64, 64), Image.Resampling.BICUBIC).save(folder / str(digit) / f"{i:04}.png")


ROWS = {
    "scenes": Row("scenes, classification", "classification", _scenes("classification", 2400, 128, 320), 6, 128),
    "digits": Row("digits", "classification", _digits, 3, 64, {"pictures.flip": 0.0}),
    "masks": Row("scenes, segmentation", "segmentation", _scenes("segmentation", 600, 128, 160), 10, 128),
}


@dataclass
class Result:
    """What one training came to."""

    score: float
    seconds: float
    trained: int


# --- Lumora's arms ----------------------------------------------------------------------------------------------------


def ours(row: Row, data: Path, method: str, seed: int) -> Result:
    """`lumora.finetune` as it comes."""
    settings = {"train.epochs": row.epochs, "pictures.size": row.size, "train.seed": seed, **row.settings}
    with tempfile.TemporaryDirectory() as folder:
        run = learn(data, Path(folder) / "run", method, settings).run
    return Result(run.scores[_main(row)], run.seconds, run.trained)


def _main(row: Row) -> str:
    return "mean_iou" if row.task == "segmentation" else "accuracy"


# --- the guides' arm --------------------------------------------------------------------------------------------------


class WithLoss(nn.Module):
    """A model as `Trainer` wants it: it takes labels and gives a loss."""

    def __init__(self, model: nn.Module, segments: bool) -> None:
        super().__init__()
        self.model, self.segments = model, segments

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits, and the guides' loss where there are labels."""
        logits = self.model(pixel_values)
        if self.segments and labels is not None:
            logits = nn.functional.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels, ignore_index=255), "logits": logits}


class AsTheGuides(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Samples of a split with the transforms of a guide."""

    def __init__(self, source: Source, split: str, row: Row, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.samples, self.segments = source.splits[split], row.task == "segmentation"
        size, train = row.size, split == "train"
        flips: list[Any] = [] if row.settings.get("pictures.flip") == 0.0 else [T.RandomHorizontalFlip()]
        steps: list[Any] = [T.Resize((size, size))]
        if self.segments and train:
            steps = [T.ColorJitter(0.25, 0.25, 0.25, 0.1), *steps]
        elif train:
            steps = [T.RandomResizedCrop(size), *flips]
        self.transform = T.Compose([T.ToPILImage(), *steps, T.ToTensor(), T.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        labels = sample.mask().long() if self.segments else torch.tensor(sample.target)
        return {"pixel_values": self.transform(sample.picture()), "labels": labels}


def guides(row: Row, data: Path, method: str, seed: int) -> Result:
    """PEFT and `Trainer` with the guides' settings, on the same base."""
    import transformers
    from peft import LoraConfig, get_peft_model

    segments = row.task == "segmentation"
    source = open_source(data, task=row.task)
    transformers.set_seed(seed)
    base = load_base(task=row.task, labels=source.labels.names)
    rank = 32 if segments else 16
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=POINTWISE,
        lora_dropout=0.1,
        bias="lora_only" if segments else "none",
        modules_to_save=list(base.heads),
    )
    model = get_peft_model(base.module, config)
    mean, std = base.preprocessing.mean, base.preprocessing.std
    batch = 4 if segments else 32
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            learning_rate=5e-4 if segments else 5e-3,
            num_train_epochs=row.epochs,
            per_device_train_batch_size=batch,
            per_device_eval_batch_size=batch,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model=_main(row),
            greater_is_better=True,
            remove_unused_columns=False,
            label_names=["labels"],
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            report_to=[],
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            WithLoss(model, segments),
            arguments,
            train_dataset=AsTheGuides(source, "train", row, mean, std),
            eval_dataset=AsTheGuides(source, "validation", row, mean, std),
            compute_metrics=lambda found: {_main(row): _score(*found, len(source.labels))},
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        score = trainer.evaluate()[f"eval_{_main(row)}"]
    return Result(score, seconds, sum(p.numel() for p in model.parameters() if p.requires_grad))


def _score(logits: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Accuracy, or the mean IoU of the classes that were said or meant."""
    said = logits.argmax(1)
    if labels.ndim == 1:
        return float((said == labels).mean())
    counts = labels != 255
    table = np.bincount(labels[counts] * classes + said[counts], minlength=classes**2).reshape(classes, classes)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return float((table.diagonal()[union > 0] / union[union > 0]).mean())


# --- the table --------------------------------------------------------------------------------------------------------

ARMS: dict[str, tuple[str, Callable[[Row, Path, str, int], Result]]] = {
    **{f"lumora: {name}": (method, ours) for method, name in METHODS.items()},
    "guide's settings, peft and Trainer": ("lora", guides),
}


def measured(row: Row, data: Path, arms: list[str], seeds: int) -> Iterator[tuple[str, list[Result]]]:
    """Each arm's results; the seeds take turns."""
    results: dict[str, list[Result]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        for arm in arms:
            method, work = ARMS[arm]
            results[arm].append(found := work(row, data, method, seed))
            print(f"{row.title}, seed {seed}, {arm}: {found.score:.3f} in {found.seconds:.0f} s", file=sys.stderr)
    yield from results.items()


def told(scores: list[float]) -> str:
    """Mean and 95 % interval."""
    mean = statistics.fmean(scores)
    if len(scores) < 2:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {STUDENT[len(scores)] * statistics.stdev(scores) / len(scores) ** 0.5:.3f}"


def report(say: Say, rows: list[str], arms: list[str], seeds: int) -> None:
    say("# How good adapters get\n")
    say(f"{machine('transformers', 'timm', 'peft')}; {seeds} seeds.\n")
    say("| data | epochs | arm | score | seeds | seconds | trained parameters |")
    say("|---|---|---|---|---|---|---|")
    for name in rows:
        row = ROWS[name]
        with tempfile.TemporaryDirectory() as folder:
            row.make(Path(folder) / "data")
            for arm, found in measured(row, Path(folder) / "data", arms, seeds):
                scores, each = [one.score for one in found], " ".join(f"{one.score:.3f}" for one in found)
                seconds = statistics.fmean(one.seconds for one in found)
                say(
                    f"| {row.title}, {_main(row)} | {row.epochs} | {arm} | {told(scores)} | {each} | {seconds:.0f} | "
                    f"{found[0].trained:,} |"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="all when none is named")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the report there as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    written(options.out, lambda say: report(say, options.rows or list(ROWS), options.arms, options.seeds))
