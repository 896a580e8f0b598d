"""What is suggested for keys that do not exist."""

from __future__ import annotations

import dataclasses

import peft
import pytest
from transformers import TrainingArguments

from lumora.training.schema.keys import keys
from lumora.training.schema.similar import FAMILIAR, unknown_key


def test_familiar__words_lead_to_keys_that_exist():
    assert [key for key in FAMILIAR.values() if key not in keys()] == []


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("r", "lora.r"),
        ("lora_alpha", "lora.alpha"),
        ("lora_dropout", "lora.dropout"),
        ("target_modules", "lora.targets"),
        ("exclude_modules", "lora.exclude"),
        ("use_rslora", "lora.rslora"),
        ("use_dora", "lora.dora"),
        ("init_lora_weights", "lora.start"),
        ("rank_pattern", "lora.rank_pattern"),
        ("alpha_pattern", "lora.alpha_pattern"),
        ("bias", "lora.bias"),
    ],
)
def test_words__of_peft_are_known(word, key):
    assert word in {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert unknown_key(word) == f"there is no {word}; did you mean {key}?"


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("learning_rate", "train.rate"),
        ("num_train_epochs", "train.epochs"),
        ("per_device_train_batch_size", "train.batch_size"),
        ("gradient_accumulation_steps", "train.micro_batch"),
        ("weight_decay", "train.weight_decay"),
        ("warmup_steps", "train.warmup"),
        ("lr_scheduler_type", "train.schedule"),
        ("max_grad_norm", "train.clip"),
        ("bf16", "train.precision"),
        ("fp16", "train.precision"),
        ("gradient_checkpointing", "train.grad_checkpointing"),
        ("metric_for_best_model", "train.best_by"),
        ("label_smoothing_factor", "loss.label_smoothing"),
        ("dataloader_num_workers", "run.workers"),
        ("output_dir", "run.out"),
        ("save_steps", "run.checkpoint_every"),
        ("report_to", "run.track"),
    ],
)
def test_words__of_transformers_are_known(word, key):
    assert word in {field.name for field in dataclasses.fields(TrainingArguments)}
    assert unknown_key(word) == f"there is no {word}; did you mean {key}?"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora.rank", "did you mean lora.r?"),
        ("lora.Alhpa", "did you mean lora.alpha?"),
        ("trian.rate", "did you mean train.rate?"),
        ("train.learning-rate", "did you mean train.rate?"),
        ("lora.epochs", "did you mean train.epochs?"),
        ("train.epoch", "did you mean train.epochs?"),
        ("seed", "did you mean data.seed or train.seed?"),
        ("epoch", "did you mean train.epochs?"),
        ("loss.zzz", "loss has label_smoothing, class_weights, dice."),
        ("zzz", "keys begin with data., base., lora., train., pictures., loss., run."),
        ("", "keys begin with data."),
    ],
)
def test_unknown__key_suggests_what_is_near(name, said):
    assert unknown_key(name).startswith(f"there is no {name}; {said}")
