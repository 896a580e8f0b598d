"""Guide 2's training step and its evaluation: Lumora beside PEFT and transformers, time and memory from one run.

    python benchmarks/segmentation.py                     # both rows, on this machine
    python benchmarks/segmentation.py step                # one of them
    python benchmarks/segmentation.py --rounds 9 --out benchmarks/results/segmentation-cpu.md

SegFormer-B0 with 150 classes on pictures of 512 × 512, r=32 on query and value with their biases, the decode head
trained whole, batches of two. Lumora's arm is `get_peft_model` and `lumora.ops.accelerate`; "lumora's LoRA alone" is
without the latter. PEFT's arm takes the model's own loss, and for the evaluation transformers' `Trainer` with the
guide's `compute_metrics`: all logits upsampled, arg-max, and mean IoU as `evaluate` publishes and computes it (in numpy
here, since `evaluate` fetches it from the Hub). The call is the mended one: the guide's own gives 0 for what is right.

All arms of a row take turns in one process; each time is the fastest round. Memory is the most that two steps, or one
evaluation, need beyond the model, measured in a fresh process (on a GPU: torch's own peak). On a machine with a GPU
everything runs there in bf16.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import DEVICE, GPU, Say, command_with_rows, fastest, machine, peak, peak_elsewhere
from torch import Tensor, nn

CLASSES, SIZE, BATCH = 150, 512, 2
FEW, MANY = 20, 200
LORA = {"r": 32, "lora_alpha": 32, "lora_dropout": 0.1, "bias": "lora_only", "modules_to_save": ["decode_head"]}
ARMS = ("lumora", "lumora's LoRA alone", "peft")
ROWS = ("step", "evaluation")


def adapted(arm: str) -> nn.Module:
    """SegFormer-B0 with random weights, the same in each arm, with guide 2's adapters."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    if arm == "peft":
        from peft import LoraConfig, get_peft_model
    else:
        from lumora import LoraConfig, get_peft_model
    torch.manual_seed(0)
    base = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES))
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"], **LORA)).to(DEVICE)
    if arm == "lumora":
        from lumora.ops import accelerate

        accelerate(model)
    return model


class Pictures(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Noise, and masks of large squares with a border that counts nowhere; made when asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(i)
        squares = torch.randint(0, CLASSES, (8, 8), generator=generator)
        labels = squares.repeat_interleave(SIZE // 8, 0).repeat_interleave(SIZE // 8, 1)
        labels[:8] = 255
        return {"pixel_values": torch.randn(3, SIZE, SIZE, generator=generator), "labels": labels}


# --- the training step ------------------------------------------------------------------------------------------------


def make_step(arm: str) -> Callable[[], None]:
    """Forward, the model's loss, backward, AdamW on what is trained."""
    model = adapted(arm).train()
    samples = [Pictures(BATCH)[i] for i in range(BATCH)]
    pixels, labels = (torch.stack([s[key] for s in samples]).to(DEVICE) for key in ("pixel_values", "labels"))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=GPU):
            loss: Tensor = model(pixel_values=pixels, labels=labels).loss
        loss.backward()
        optimizer.step()

    return step


# --- the evaluation ---------------------------------------------------------------------------------------------------


def published_mean_iou(predictions: np.ndarray, references: np.ndarray, num_labels: int, ignore_index: int) -> float:
    """Mean IoU as `evaluate` defines it and counts it: three histograms of each picture."""
    both, said, meant = (np.zeros(num_labels) for _ in range(3))

    def histogram(ids: np.ndarray) -> np.ndarray:
        return np.histogram(ids, bins=num_labels, range=(0, num_labels - 1))[0]

    for predicted, labels in zip(predictions, references, strict=True):
        counts = labels != ignore_index
        predicted, labels = predicted[counts], labels[counts]
        both += histogram(predicted[predicted == labels])
        said += histogram(predicted)
        meant += histogram(labels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmean(both / (said + meant - both)))


def guides_metrics(evaluated: Any) -> dict[str, float]:
    """The guide's `compute_metrics`, with the right call."""
    logits, labels = evaluated
    large = nn.functional.interpolate(
        torch.from_numpy(logits).float(), size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
    predictions = large.argmax(dim=1).numpy()
    return {"mean_iou": published_mean_iou(predictions, labels, CLASSES, ignore_index=255)}


def make_evaluation(arm: str, count: int, folder: str) -> Callable[[], float]:
    """An evaluation of some pictures, which gives the mean IoU."""
    import transformers

    if arm == "peft":
        kind, metrics = transformers.Trainer, guides_metrics
    else:
        from lumora.data import Labels
        from lumora.integrations.transformers import Trainer
        from lumora.tasks import Segmentation

        kind: Any = Trainer
        metrics = Segmentation(Labels(tuple(f"class {i}" for i in range(CLASSES)))).new_metrics()
    arguments = transformers.TrainingArguments(
        folder,
        per_device_eval_batch_size=BATCH,
        use_cpu=not GPU,
        bf16=GPU,
        label_names=["labels"],
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = kind(adapted(arm), arguments, eval_dataset=Pictures(count), compute_metrics=metrics)
    trainer.remove_callback(transformers.PrinterCallback)  # it would print every class's scores
    return lambda: trainer.evaluate()["eval_mean_iou"]


# --- measuring --------------------------------------------------------------------------------------------------------


def memory_of(row: str, arm: str, count: str = "") -> float:
    """Of two steps, since the optimizer's state comes with the first; or of one evaluation of so many pictures."""
    if row == "step":
        return peak(make_step(arm), calls=2)
    with tempfile.TemporaryDirectory() as folder:
        return peak(make_evaluation(arm, int(count), folder))


def report_step(say: Say, rounds: int, with_memory: bool) -> None:
    times = fastest({arm: make_step(arm) for arm in ARMS}, rounds)
    memory = {arm: peak_elsewhere(__file__, "step", arm) for arm in ARMS} if with_memory else {}
    say("| training step, batch 2 | seconds | of peft | extra MiB | of peft |\n|---|---|---|---|---|")
    for arm in ARMS:
        needs = f"{memory[arm]:.0f} | {memory[arm] / memory['peft']:.3f}" if memory else " | "
        say(f"| {arm} | {times[arm]:.3f} | {times[arm] / times['peft']:.3f} | {needs} |")
    if not GPU:
        say("| *must be* | | ≤ 0.40 | | ≤ 0.40 |")


def report_evaluation(say: Say, rounds: int, with_memory: bool) -> None:
    """Times of evaluations of `FEW` pictures; memory of `FEW` and, where that does not fill the machine, of `MANY`."""
    scores: dict[str, float] = {}

    def scoring(arm: str, evaluate: Callable[[], float]) -> Callable[[], None]:
        return lambda: scores.update({arm: evaluate()})

    with tempfile.TemporaryDirectory() as folder:
        steps = {arm: scoring(arm, make_evaluation(arm, FEW, folder)) for arm in ARMS}
        times = fastest(steps, rounds)
    say(f"\n| evaluation | seconds a picture | of peft | mean IoU | extra MiB at {FEW} | at {MANY} |")
    say("|---|---|---|---|---|---|")
    for arm in ARMS:
        needs = " | "
        if with_memory:
            few = peak_elsewhere(__file__, "evaluation", arm, str(FEW))
            # PEFT's arm at `MANY`: 31 GB of upsampled logits beside 2 GB of small ones.
            many = "" if arm == "peft" else f"{peak_elsewhere(__file__, 'evaluation', arm, str(MANY)):.0f}"
            needs = f"{few:.0f} | {many or 'not run'}"
        ratio = times[arm] / times["peft"]
        say(f"| {arm} | {times[arm] / FEW:.3f} | {ratio:.3f} | {scores[arm]:.6f} | {needs} |")
    if not GPU:
        say("| *must be* | | ≤ 0.35 | the same | | the same as at 20 |")


def report(say: Say, rows: list[str], rounds: int, with_memory: bool) -> None:
    say("# Guide 2: SegFormer-B0, 512 × 512, 150 classes, LoRA\n")
    say(f"{machine('transformers', 'peft')}; fastest of {rounds} rounds, of the evaluation of a third of them.\n")
    if "step" in rows:
        report_step(say, rounds, with_memory)
    if "evaluation" in rows:
        report_evaluation(say, max(rounds // 3, 1), with_memory)


if __name__ == "__main__":
    command_with_rows(__doc__, ROWS, report, memory_of, rounds=7)
