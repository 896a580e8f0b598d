"""What somebody may have meant by a key that does not exist."""

from __future__ import annotations

import difflib

from lumora.training.schema.keys import SECTIONS, keys

FAMILIAR = {
    # peft
    "rank": "lora.r",
    "lora_r": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "target_modules": "lora.targets",
    "exclude_modules": "lora.exclude",
    "modules_to_save": "lora.norms",
    "use_rslora": "lora.rslora",
    "use_dora": "lora.dora",
    "init_lora_weights": "lora.start",
    "init": "lora.start",
    "lora_bias": "lora.bias",
    "loraplus_lr_ratio": "train.lora_plus",
    "peft_method": "train.method",
    # transformers' TrainingArguments
    "learning_rate": "train.rate",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
    "per_gpu_train_batch_size": "train.batch_size",
    "gradient_accumulation_steps": "train.micro_batch",
    "auto_find_batch_size": "train.micro_batch",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup",
    "lr_scheduler_type": "train.schedule",
    "max_grad_norm": "train.clip",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "mixed_precision": "train.precision",
    "gradient_checkpointing": "train.grad_checkpointing",
    "metric_for_best_model": "train.best_by",
    "early_stopping_patience": "train.patience",
    "label_smoothing_factor": "loss.label_smoothing",
    "dataloader_num_workers": "run.workers",
    "output_dir": "run.out",
    "save_steps": "run.checkpoint_every",
    "save_strategy": "run.checkpoint_every",
    "report_to": "run.track",
    "logging_dir": "run.out",
    "model_name_or_path": "base.name",
    "pretrained_model_name_or_path": "base.name",
    "dataset_name": "data.path",
    "train_dir": "data.path",
    "do_reduce_labels": "data.reduce_labels",
    "ignore_index": "data.ignore",
    "max_train_time": "train.max_time",
    # timm's scripts, and what people say
    "lr": "train.rate",
    "wd": "train.weight_decay",
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "num_epochs": "train.epochs",
    "sched": "train.schedule",
    "scheduler": "train.schedule",
    "amp": "train.precision",
    "dtype": "train.precision",
    "clip_grad": "train.clip",
    "model_ema": "train.ema",
    "model_ema_decay": "train.ema",
    "early_stopping": "train.patience",
    "linear_probe": "train.head_first",
    "head_lr": "train.head_rate",
    "model": "base.name",
    "backbone": "base.name",
    "encoder": "base.name",
    "dataset": "data.path",
    "data_dir": "data.path",
    "val_split": "data.validation",
    "val_ratio": "data.validation",
    "test_split": "data.test",
    "classes": "data.labels",
    "class_names": "data.labels",
    "image_size": "pictures.size",
    "img_size": "pictures.size",
    "crop_size": "pictures.size",
    "resolution": "pictures.size",
    "hflip": "pictures.flip",
    "color_jitter": "pictures.colour",
    "color": "pictures.colour",
    "mixup": "pictures.mix",
    "cutmix": "pictures.mix",
    "smoothing": "loss.label_smoothing",
    "class_weight": "loss.class_weights",
    "num_workers": "run.workers",
    "output": "run.out",
    "tracker": "run.track",
}
"""The words of other programs, and what they are called here."""


def unknown_key(name: str) -> str:
    """The sentence for a key that does not exist.

    >>> unknown_key("lora.rank")
    'there is no lora.rank; did you mean lora.r?'
    """
    section, _, last = name.rpartition(".")
    last = last.strip().lower().replace("-", "_")
    if near := _near(section, last):
        return f"there is no {name}; did you mean {' or '.join(near)}?"
    if section in SECTIONS:
        return f"there is no {name}; {section} has {', '.join(SECTIONS[section].model_fields)}."
    return f"there is no {name}; keys begin with {', '.join(f'{known}.' for known in SECTIONS)}"


def _near(section: str, last: str) -> list[str]:
    """The keys that were most likely meant, at most three."""
    if last in FAMILIAR:
        return [FAMILIAR[last]]
    fields: dict[str, list[str]] = {}
    for key in keys().values():
        fields.setdefault(key.field, []).append(key.name)
    if last in fields:
        return fields[last]
    if section in SECTIONS and (near := difflib.get_close_matches(last, list(SECTIONS[section].model_fields), n=2)):
        return [f"{section}.{field}" for field in near]
    near = difflib.get_close_matches(last, [*fields, *FAMILIAR], n=1, cutoff=0.7)
    return [key for word in near for key in (fields[word] if word in fields else [FAMILIAR[word]])][:3]
