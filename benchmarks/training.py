"""Whole trainings: Lumora beside PEFT and transformers' `Trainer`, pictures a second and peak memory from one run.

    python benchmarks/training.py                         # every row
    python benchmarks/training.py segmentation --rounds 2
    python benchmarks/training.py --out benchmarks/results/training-cpu.md

Each arm is a process of its own that trains on the same pictures with the same adapters, from files to the last step:
reading, decoding, transforms, forward, backward, optimizer. "lumora" is `lumora.finetune` with the guide's adapters and
its loss, "peft" the code that PEFT's guides print (for timm's models: their adapters with the first guide's transforms
and trainer). Models have the structure of those that the guides name, with random weights. An arm trains for two
epochs; pictures a second are those of the second one without its evaluation. Memory is the most that the process needed
beyond what it had when its libraries were imported, with the model and all that is loaded late; and, apart from that,
what the steps needed beyond what was there when everything was ready for them. Arms take turns; shown is each arm's
fastest turn, and the least memory. On a machine with a GPU everything runs there in bf16.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import GPU, Memory, Say, machine
from PIL import Image

EPOCHS = 2


@dataclass(frozen=True)
class Row:
    """A guide: its model, its adapters, and how many pictures an epoch has."""

    title: str
    model: Callable[[Path], str]
    segments: bool
    size: int
    batch: int
    pictures: int
    lora: dict[str, Any]


def _vit(folder: Path) -> str:
    """The structure of google/vit-base-patch16-224-in21k."""
    import transformers

    transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False).save_pretrained(folder)
    transformers.ViTImageProcessor().save_pretrained(folder)
    return str(folder)


def _segformer(folder: Path) -> str:
    """The structure of nvidia/mit-b0."""
    import transformers

    config = transformers.SegformerConfig()
    transformers.SegformerForImageClassification(config).save_pretrained(folder)
    transformers.SegformerImageProcessor(do_reduce_labels=False).save_pretrained(folder)
    return str(folder)


def _poolformer(folder: Path) -> str:
    """The structure of timm/poolformer_m36."""
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("poolformer_m36")
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "poolformer_m36", "num_classes": 1000, "pretrained_cfg": model.pretrained_cfg}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    return str(folder)


QUERY_VALUE = ["q_proj", "v_proj"]
ROWS = {
    "classification": Row(
        "guide 1: ViT-B/16, 224²", _vit, False, 224, 8, 32, {"r": 16, "targets": QUERY_VALUE, "dropout": 0.1}
    ),
    "segmentation": Row(
        "guide 2: SegFormer-B0, 512²", _segformer, True, 512, 2, 16, {"r": 32, "targets": QUERY_VALUE, "dropout": 0.1}
    ),
    "timm": Row(
        "timm: poolformer_m36, 224²",
        _poolformer,
        False,
        224,
        8,
        32,
        {"r": 8, "targets": r".*\.mlp\.fc\d", "dropout": 0.0},
    ),
}


def write_pictures(folder: Path, row: Row) -> None:
    """500 × 375 JPEGs, in class folders or with masks of 150 classes."""
    random = np.random.default_rng(0)
    for i in range(row.pictures + row.batch):
        split = "train" if i < row.pictures else "validation"
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = coarse.resize((500, 375), Image.Resampling.BICUBIC)
        if not row.segments:
            place = folder / split / f"class {i % 4}"
            place.mkdir(parents=True, exist_ok=True)
            picture.save(place / f"{i:04}.jpg", quality=90)
            continue
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        picture.save(folder / "images" / split / f"{i:04}.jpg", quality=90)
        ids = random.integers(0, 150, (6, 8), dtype=np.uint8).repeat(63, 0)[:375].repeat(63, 1)[:, :500]
        Image.fromarray(ids).save(folder / "masks" / split / f"{i:04}.png")
    if row.segments:
        (folder / "classes.txt").write_text("".join(f"thing {i}\n" for i in range(150)))


# --- the arms, each in a process of its own ---------------------------------------------------------------------------


@dataclass
class Measured:
    """What one training takes."""

    seconds: float
    """Of the second epoch's steps."""
    whole: float
    """MiB, from the libraries' import on."""
    steps: float
    """MiB, from the first step on."""


def lumora_arm(row: Row, model: str, data: Path, out: Path, memory: Memory) -> Measured:
    """`lumora.finetune` with the guide's adapters."""
    import lumora
    from lumora.training.events import Begun, EpochDone, Listener, StepDone

    class Clock(Listener):
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.steps: list[float] = []
            self.needed = 0.0

        def begun(self, event: Begun) -> None:
            self.memory = memory.mark()

        def step_done(self, event: StepDone) -> None:
            self.steps.append(time.perf_counter())
            self.needed = self.memory.needed()

        def epoch_done(self, event: EpochDone) -> None:
            self.ends.append(time.perf_counter())

    clock = Clock()
    settings = {f"lora.{key}": value for key, value in row.lora.items()}
    settings |= {"lora.norms": False, "pictures.size": row.size, "train.batch_size": row.batch, "train.epochs": EPOCHS}
    settings |= {"train.seed": 0, "run.workers": 0, "base.drop_path": 0.0, "loss.dice": 0.0}
    settings |= {"run.live_samples": 0}
    lumora.finetune(data, model, out=out, settings=settings, listeners=[clock])
    return Measured(clock.steps[-1] - clock.ends[-2], memory.needed(), clock.needed)


def peft_arm(row: Row, model: str, data: Path, out: Path, memory: Memory) -> Measured:
    """The guides' code."""
    import transformers

    made, train = (_segmenter if row.segments else _classifier)(row, model, data)
    begun: list[float] = []
    ended: list[float] = []
    marked: list[Memory] = []

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            marked.append(memory.mark())

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            begun.append(time.perf_counter())

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            ended.append(time.perf_counter())

    arguments = transformers.TrainingArguments(
        str(out),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=row.batch,
        learning_rate=5e-4,
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not GPU,
        bf16=GPU,
    )
    transformers.Trainer(made, arguments, train_dataset=train, callbacks=[Clock()]).train()
    return Measured(ended[-1] - begun[-1], memory.needed(), marked[0].needed())


def _adapted(row: Row, model: Any, heads: list[str], **more: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = row.lora
    config = LoraConfig(
        r=lora["r"],
        lora_alpha=lora["r"],
        target_modules=lora["targets"],
        lora_dropout=lora["dropout"],
        modules_to_save=heads,
        **more,
    )
    return get_peft_model(model, config)


def _classifier(row: Row, model: str, data: Path) -> tuple[Any, Any]:
    """Guide 1: class folders through `datasets`, torchvision's transforms."""
    import datasets
    import transformers
    from torchvision import transforms as T

    normalise = T.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    steps = T.Compose([T.RandomResizedCrop(row.size), T.RandomHorizontalFlip(), T.ToTensor(), normalise])
    train = datasets.load_dataset("imagefolder", data_dir=str(data), split="train")
    train.set_transform(
        lambda found: {
            "pixel_values": [steps(picture.convert("RGB")) for picture in found["image"]],
            "labels": found["label"],
        }
    )
    if "poolformer" in row.title:
        import timm

        inside = timm.create_model("poolformer_m36", num_classes=4)
        return _adapted(row, _WithLoss(inside), ["head.fc"]), train
    base = transformers.ViTForImageClassification.from_pretrained(model, num_labels=4, ignore_mismatched_sizes=True)
    return _adapted(row, base, ["classifier"]), train


class _WithLoss(torch.nn.Module):
    """A timm model as `Trainer` wants it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The guide's loss."""
        logits = self.model(pixel_values)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def _segmenter(row: Row, model: str, data: Path) -> tuple[Any, Any]:
    """Guide 2: pictures and masks through `datasets`, colour jitter, transformers' processor."""
    import datasets
    import transformers
    from torchvision import transforms as T

    processor = transformers.AutoImageProcessor.from_pretrained(model)
    jitter = T.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.1)
    pictures = sorted(map(str, (data / "images/train").iterdir()))
    masks = sorted(map(str, (data / "masks/train").iterdir()))
    train = datasets.Dataset.from_dict({"image": pictures, "annotation": masks})
    train = train.cast_column("image", datasets.Image()).cast_column("annotation", datasets.Image())
    train.set_transform(lambda found: processor([jitter(p) for p in found["image"]], found["annotation"]))
    base = transformers.SegformerForSemanticSegmentation.from_pretrained(
        model, num_labels=150, ignore_mismatched_sizes=True
    )
    return _adapted(row, base, ["decode_head"], bias="none"), train


ARMS = {"lumora": lumora_arm, "peft": peft_arm}


def work(name: str, arm: str, model: str, data: str, out: str) -> None:
    """In a process of its own: train, and print what it took."""
    import transformers  # noqa: F401  both arms have it imported before memory is looked at

    print(json.dumps(asdict(ARMS[arm](ROWS[name], model, Path(data), Path(out), Memory()))))


# --- the table --------------------------------------------------------------------------------------------------------


def measured(name: str, rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """The fastest turn of each arm, and the least memory."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    row, turns = ROWS[name], {arm: list[dict[str, float]]() for arm in ARMS}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_pictures(folder / "data", row)
        model = row.model(folder / "model")
        for turn in range(rounds):
            for arm in ARMS:
                out = folder / f"{arm} {turn}"
                command = [sys.executable, __file__, "--work", name, arm, model, str(folder / "data"), str(out)]
                environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                turns[arm].append(json.loads(done.stdout.splitlines()[-1]))
    return {arm: {key: min(turn[key] for turn in found) for key in found[0]} for arm, found in turns.items()}


def report(say: Say, rows: list[str], rounds: int, threads: int) -> None:
    say("# Whole trainings\n")
    say(f"{machine('transformers', 'timm', 'peft')}; fastest of {rounds} turns.\n")
    say("| training | arm | pictures a second | of peft's time | MiB | of peft's | MiB for steps | of peft's |")
    say("|---|---|---|---|---|---|---|---|")
    for name in rows:
        row, found = ROWS[name], measured(name, rounds, threads)
        for arm, one in found.items():
            share = {key: one[key] / found["peft"][key] for key in one}
            say(
                f"| {row.title} | {arm} | {row.pictures / one['seconds']:.2f} | {share['seconds']:.3f} | "
                f"{one['whole']:.0f} | {share['whole']:.3f} | {one['steps']:.0f} | {share['steps']:.3f} |"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        warnings.simplefilter("ignore")
        work(*sys.argv[2:])
        sys.exit()
    import argparse

    from measuring import written

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="all when none is named")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the report there as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    written(options.out, lambda say: report(say, options.rows or list(ROWS), options.rounds, options.threads))
