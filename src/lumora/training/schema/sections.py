"""The sections of a recipe and what each key in them means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field

from lumora.training.schema import kinds
from lumora.training.schema.kinds import Null
from lumora.training.schema.quantities import bytes_of


class Section(BaseModel):
    """Keys that belong together. A key that was not given is None and will be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _key(description: str) -> Any:
    return Field(default=None, description=description)


class Data(Section):
    """Where the pictures lie, and how they are read and divided."""

    path: Annotated[kinds.PathText | None, Null("the data are at hand in Python")] = _key(
        "a folder, a table, an archive, or the name of a dataset on the Hub"
    )
    task: Literal["classification", "multilabel", "segmentation"] | None = _key("what is to be learnt")
    layout: Annotated[kinds.Text | None, Null("found out")] = _key("the layout, if the data look like several")
    labels: Annotated[kinds.LabelNames | None, Null("those of the data")] = _key("the labels in the order of ids")
    columns: Annotated[kinds.Columns | None, Null("found out")] = _key("which columns of a table hold what")
    subset: Annotated[kinds.Text | None, Null("the only one")] = _key("the subset of a dataset on the Hub")
    ignore: kinds.Numbers | None = _key("numbers in masks that count nowhere")
    reduce_labels: Annotated[bool | None, Null("as the layout says")] = _key(
        "whether 0 in masks counts nowhere and 1 is the first class"
    )
    validation: kinds.Share | None = _key("the part that is drawn for validation, where the data have none")
    test: kinds.Share | None = _key("the part that is drawn for a test")
    seed: kinds.Seed | None = _key("another seed draws other splits")
    near_duplicates_together: bool | None = _key("whether pictures that show the same are kept in one split")
    skip_bad: bool | None = _key("whether unreadable files are left out, and told, instead of ending the training")
    max_pixels: kinds.Count | None = _key("larger pictures are refused before they are decoded")


class Base(Section):
    """The pretrained model, and the head that it gets."""

    name: kinds.Text | None = _key("the name of the base, as `lumora inspect` takes it")
    head: Literal["auto", "own", "light"] | None = _key(
        'of a segmentation: the model\'s own head, a light one on its feature maps, or "auto" for what suits'
    )
    width: Annotated[int, Ge(1), Le(8192)] | None = _key("channels of the light head")
    drop_path: kinds.Share | None = _key("how often a block is left out in training")


class Lora(Section):
    """The adapters."""

    r: kinds.Rank | None = _key("the rank")
    alpha: kinds.Positive | None = _key("the update is scaled by alpha / r")
    dropout: kinds.Share | None = _key("how many of an adapter's inputs are dropped in training")
    targets: kinds.Targets | None = _key(
        'which layers get an adapter: "all" that mix channels, the "usual" ones of the architecture, or those named'
    )
    exclude: Annotated[kinds.Modules | None, Null("none")] = _key("modules that get no adapter whatever `targets` says")
    norms: bool | None = _key("whether normalisation layers are trained too")
    rslora: bool | None = _key("scale by alpha / sqrt(r) instead")
    dora: bool | None = _key("learn magnitudes apart from directions (DoRA)")
    start: kinds.Start | None = _key("how the adapters start, as `init_lora_weights` of LoraConfig")
    rank_pattern: kinds.Ranks | None = _key("other ranks for some layers")
    alpha_pattern: kinds.Alphas | None = _key("other alphas for some layers")
    bias: Literal["none", "all", "lora_only"] | None = _key("which biases of the base are trained")


class Train(Section):
    """How it is trained, and for how long."""

    method: Literal["lora", "full", "head", "scratch"] | None = _key(
        "train adapters and the head, everything, the head alone, or everything from random weights"
    )
    start_from: Annotated[kinds.PathText | None, Null("the base alone")] = _key(
        "a bundle of the same kind, from which adapters and head are taken as they begin; base, head, method and the "
        "section lora are as in it where nothing is said"
    )
    epochs: Annotated[int, Ge(1), Le(1_000_000)] | None = _key("how often every picture is seen")
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] | None = _key("pictures in a step, over all processes")
    micro_batch: kinds.Count | None = _key("pictures computed at once; a step adds up as many as it needs")
    rate: kinds.Rate | None = _key("the learning rate of adapters (of all weights with method full)")
    head_rate: kinds.Rate | None = _key("the learning rate of the head")
    lora_plus: Annotated[Annotated[float, Ge(1), Le(1000)] | None, Null("both learn alike")] = _key(
        "how many times faster the second factors learn (LoRA+)"
    )
    weight_decay: kinds.Probability | None = _key("weight decay of AdamW; biases and norms have none")
    warmup: kinds.Share | None = _key("the share of all steps in which the rate rises")
    schedule: Literal["cosine", "linear", "constant"] | None = _key("how the rate falls after that")
    clip: Annotated[kinds.Positive | None, Null("as they are")] = _key("the largest norm of the gradients")
    precision: Literal["fp32", "bf16", "fp16"] | None = _key("the numbers that are computed with")
    ema: Annotated[Annotated[float, Gt(0), Lt(1)] | None, Null("no average")] = _key(
        "the decay of the moving average of what is trained, which is evaluated and kept"
    )
    patience: Annotated[kinds.Count | None, Null("to the end")] = _key(
        "epochs without a better score after which to stop"
    )
    best_by: Annotated[kinds.Text | None, Null("the last is kept")] = _key("the score by which the best epoch is kept")
    max_time: Annotated[kinds.Seconds | None, Null("no limit")] = _key("seconds after which training ends")
    head_first: kinds.Whole | None = _key("epochs of the head alone before, on features computed once")
    seed: kinds.Seed | None = _key("of the head's start, the order of pictures and their changes")
    grad_checkpointing: bool | None = _key("compute forward passes twice to save memory")


class Pictures(Section):
    """What is done to the pictures in training."""

    size: kinds.Sides | None = _key("the size that the model sees")
    area: Annotated[kinds.AreaRange | None, Null("no part is drawn")] = _key(
        "of a classification: the share of the picture that is drawn, from smallest to largest"
    )
    scale: Annotated[kinds.Range | None, Null("no scale is drawn")] = _key(
        "of a segmentation: the scale that is drawn, from smallest to largest"
    )
    flip: kinds.Probability | None = _key("how probably left and right are swapped; 0 for digits and letters")
    colour: kinds.Probability | None = _key("how far brightness, contrast and saturation may change; hue 0.4 of that")
    trivial_augment: bool | None = _key("of a classification: one more random change of any kind")
    mix: Literal["none", "mixup", "cutmix", "both"] | None = _key("of a classification: blend pictures of a batch")


class Loss(Section):
    """What training makes small."""

    label_smoothing: kinds.Share | None = _key("how much of the target is spread over all classes")
    class_weights: kinds.ClassWeights | None = _key('how much each class counts; "balanced" weighs rare ones up')
    dice: Annotated[float, Ge(0), Le(100)] | None = _key("of a segmentation: how much the Dice loss counts beside")


class Run(Section):
    """Where and how it runs; nothing here decides the adapter."""

    out: kinds.PathText | None = _key("the folder of the run")
    workers: Annotated[int, Ge(0), Le(512)] | None = _key("processes that read pictures beside the training")
    cache: kinds.SizeText | None = _key("how much room decoded pictures may take")
    cache_on: Literal["ram", "disk"] | None = _key("where decoded pictures are kept")
    checkpoint_every: kinds.Seconds | None = _key("seconds from one checkpoint to the next")
    track: kinds.Trackers | None = _key("programs that are told the scores as they come")
    live_samples: Annotated[int, Ge(0), Le(100)] | None = _key("pictures that are drawn with predictions every epoch")
    threads: Annotated[Annotated[int, Ge(1), Le(4096)] | None, Null("as torch chooses")] = _key(
        "threads that compute on the CPU"
    )

    @property
    def cache_bytes(self) -> int:
        """The room for decoded pictures as a number; 0 where it is off or not chosen yet."""
        return 0 if self.cache is None else bytes_of(self.cache)
