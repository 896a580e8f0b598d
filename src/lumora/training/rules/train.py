"""How long, how fast and in what parts a training runs when nothing is said."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lumora.training.rules.base import Choice, Choosing, Rule, always, default, detected
from lumora.training.schema.contradictions import SCORES

MANY_PICTURES = 10_000
STEPS_AT_LEAST = {"classification": 1000, "multilabel": 1000, "segmentation": 2000}
"""As many steps as a small set should get."""
EPOCHS = {"classification": (5, 50), "multilabel": (5, 50), "segmentation": (10, 100)}
"""The fewest and the most epochs."""
STEPS_IN_AN_EPOCH = 4
"""A batch is no larger than lets an epoch have so many."""
FEW_STEPS = 500
"""A training of fewer steps learns faster."""
SHORT_RATES = {"lora": 2e-3, "full": 5e-4}
"""The rate of such a training, by its method."""
BYTES_OF_A_PIXEL = 5000
"""What a model remembers of one pixel of its input until the backward pass, rather too many: measured 2,200 for
ViT-B/16 and 4,900 for poolformer_m36."""
BYTES_OF_A_PARAMETER = 8
"""A weight, and what is kept beside it."""


def batch_size(known: Choosing) -> Choice:
    """32, and 64 from 10,000 pictures; half of that for segmentation; at most a quarter of the pictures."""
    count = known.facts.pictures_train
    usual = 16 if known.facts.segments else 32
    if part := known.asked.get("train.micro_batch"):
        return detected(-(-usual // part) * part, "so many micro-batches as make an ordinary batch")
    if count >= MANY_PICTURES:
        return detected(2 * usual, f"{count:,} pictures are {MANY_PICTURES:,} or more")
    most = max(1, count // STEPS_IN_AN_EPOCH)
    if most < usual:
        return detected(2 ** int(math.log2(most)), f"an epoch of {count:,} pictures should have a few steps")
    return detected(usual, f"{count:,} pictures are fewer than {MANY_PICTURES:,}")


def micro_batch(known: Choosing) -> Choice:
    """The largest part of a batch that surely fits into memory."""
    whole = known["train.batch_size"]
    fitting = max(1, _room(known) // _bytes_of_a_picture(known))
    if whole <= fitting:
        return detected(whole, "a whole batch fits into memory")
    part = max(n for n in range(1, fitting + 1) if whole % n == 0)
    return detected(part, "what surely fits into memory")


def grad_checkpointing(known: Choosing) -> Choice:
    """True where not even one picture might fit otherwise."""
    if known["train.method"] != "head" and _bytes_of_a_picture(known) > _room(known):
        return detected(True, "a single picture may not fit into memory without")
    return detected(False, "there is memory enough")


def epochs(known: Choosing) -> Choice:
    """So many that there are 1,000 steps, from 5 to 50; for segmentation 2,000 steps, from 10 to 100."""
    task = known.facts.task
    steps = _steps_in_epoch(known)
    fewest, most = EPOCHS[task]
    wanted = math.ceil(STEPS_AT_LEAST[task] / steps)
    chosen = min(max(wanted, fewest), most)
    return detected(chosen, f"{chosen * steps:,} steps of {steps:,} an epoch")


def rate(known: Choosing) -> Choice:
    """0.001, 0.0005 for adapters in segmentation, 0.0001 with method full; below 500 steps 0.002, 0.0005 with full."""
    method = known["train.method"]
    if method in SHORT_RATES and is_short(known):
        return detected(SHORT_RATES[method], f"{steps(known):,} steps are few")
    if method == "full":
        return default(1e-4, "pretrained weights are changed carefully")
    if method == "lora" and known.facts.segments:
        return default(5e-4, "usual for adapters in segmentation")
    return default(1e-3, "usual for adapters" if method == "lora" else "usual for fresh weights")


def head_rate(known: Choosing) -> Choice:
    """0.001; below 500 steps 0.005, and 0.01 for segmentation."""
    if known["train.method"] == "scratch" or not is_short(known):
        return default(1e-3, "usual for a fresh head")
    return detected(1e-2 if known.facts.segments else 5e-3, f"{steps(known):,} steps are few for a fresh head")


def is_short(known: Choosing) -> bool:
    """Whether there are so few steps that what is fresh does not learn enough at ordinary rates."""
    return steps(known) < FEW_STEPS


def steps(known: Choosing) -> int:
    """All steps of the training."""
    return known["train.epochs"] * _steps_in_epoch(known)


def _steps_in_epoch(known: Choosing) -> int:
    return max(1, known.facts.pictures_train // known["train.batch_size"])


def precision(known: Choosing) -> Choice:
    """bf16 on a GPU that has it, fp16 on another, fp32 on the CPU."""
    machine = known.facts.machine
    if machine.device == "cpu":
        return detected("fp32", "the CPU computes")
    return detected("bf16", "the GPU has it") if machine.bf16 else detected("fp16", "the GPU has no bf16")


def best_by(known: Choosing) -> Choice:
    """Accuracy, macro_f1 of several labels, mean_iou of masks; null without pictures for validation."""
    if not known.facts.pictures_validation:
        return detected(None, "there are no pictures for validation")
    return detected(SCORES[known.facts.task][0], f"the usual score of {known.facts.task}")


def _room(known: Choosing) -> int:
    """Bytes for what is remembered of pictures: half of what the model leaves."""
    machine, base = known.facts.machine, known.facts.base
    return max(0, machine.for_training - BYTES_OF_A_PARAMETER * base.parameters) // 2


def _bytes_of_a_picture(known: Choosing) -> int:
    height, width = known["pictures.size"]
    return BYTES_OF_A_PIXEL * height * width


RULES: Mapping[str, Rule] = {
    "train.method": always("lora", "small files, nearly the quality of training everything"),
    "train.start_from": always(None, "adapters and head begin anew"),
    "train.epochs": epochs,
    "train.batch_size": batch_size,
    "train.micro_batch": micro_batch,
    "train.rate": rate,
    "train.head_rate": head_rate,
    "train.lora_plus": always(None, "both factors learn alike"),
    "train.weight_decay": always(0.05, "usual for AdamW in vision"),
    "train.warmup": always(0.1, "a tenth of all steps"),
    "train.schedule": always("cosine", "the rate falls to nothing at the end"),
    "train.clip": always(1.0, "single steps cannot break what was learnt"),
    "train.precision": precision,
    "train.ema": always(None, "the cosine's end averages enough"),
    "train.patience": always(None, "the schedule runs to its end"),
    "train.best_by": best_by,
    "train.max_time": always(None, "no limit"),
    "train.head_first": always(0, "head and adapters begin together"),
    "train.seed": always(0, "the same training every time"),
    "train.grad_checkpointing": grad_checkpointing,
}
