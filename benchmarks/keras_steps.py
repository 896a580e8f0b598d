"""A training step of KerasHub's ViT with LoRA, with Keras's own `enable_lora`, and of all weights: time and memory.

    KERAS_BACKEND=tensorflow python benchmarks/keras_steps.py --out benchmarks/results/keras-tensorflow-cpu.md
    KERAS_BACKEND=jax python benchmarks/keras_steps.py --out benchmarks/results/keras-jax-cpu.md

ViT-S/16 at 224 × 224, a batch of 8, rank 16 on query and value and a head that learns. Each arm has a process of its
own, one after the other; a time is the fastest of the rounds, after one that does not count and builds the step. Memory
is the most that the process comes to need beyond what it has when the model is there: building the step is included,
which on TensorFlow and JAX can need more than a step does. On a GPU it is what torch's allocator has given out, so it
is told for torch alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import torch
from measuring import GPU, Memory, Say, command_with_rows, machine

from lumora import LoraConfig
from lumora.integrations.keras import apply_lora, count_parameters
from lumora.integrations.keras.library import keras, keras_hub

ARMS = {"all weights": "everything learns", "enable_lora": "Keras's own LoRA", "ours": "`apply_lora`"}
BATCH, SIDE, CLASSES, RANK = 8, 224, 101, 16


def model_of(arm: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    models = keras_hub().models
    backbone = models.ViTBackbone(
        image_shape=(SIDE, SIDE, 3), patch_size=16, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536
    )
    model = models.ViTImageClassifier(backbone, num_classes=CLASSES)
    if arm == "ours":
        apply_lora(model, LoraConfig(r=RANK, target_modules=["query", "value"], modules_to_save=["predictions"]))
    elif arm == "enable_lora":
        with_keras_lora(model)
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def with_keras_lora(model: keras.Model) -> None:
    """The same layers and head by Keras's own means."""
    for variable in model.trainable_variables:
        variable.trainable = any(variable is one for one in model.output_dense.trainable_variables)
    for block in model.backbone.get_layer("vit_encoder").encoder_layers:
        block.mha.query_dense.enable_lora(RANK)
        block.mha.value_dense.enable_lora(RANK)


def measured(arm: str, rounds: int) -> tuple[float, float, int]:
    """Seconds of a step, MiB, and how many parameters learn."""
    model = model_of(arm)
    random = np.random.default_rng(0)
    pixels = random.normal(size=(BATCH, SIDE, SIDE, 3)).astype("float32")
    labels = random.integers(0, CLASSES, BATCH).astype("int32")
    memory, times = Memory(), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        model.train_on_batch(pixels, labels)
        times.append(time.perf_counter() - start)
    return min(times[1:]), memory.needed(), count_parameters(model)[0]


def memory_of(arm: str, rounds: str) -> str:
    """What the process of an arm prints."""
    return " ".join(str(number) for number in measured(arm, int(rounds)))


def where(backend: str) -> str:
    """The machine in a line. The threads that it would name are torch's; other backends take all cores."""
    line = machine("keras", backend, "keras-hub").replace(", bf16;", ";")  # Keras computes in 32 bits here
    cores = len(os.sched_getaffinity(0))
    return line if backend == "torch" else line.replace(f"{torch.get_num_threads()} threads", f"{cores} cores")


def report(say: Say, rows: list[str], rounds: int, with_memory: bool) -> None:
    backend = keras.backend.backend()
    say(f"# A training step of ViT-S/16 in Keras on {backend}\n")
    with_memory = with_memory and (backend == "torch" or not GPU)
    say(f"{where(backend)}; batch {BATCH}, rank {RANK}; fastest of {rounds} rounds.\n")
    say("| what learns | parameters | a step, s | of all weights | MiB, building the step included |")
    say("|---|---|---|---|---|")
    whole: float | None = None
    for arm in rows:
        threads = str(torch.get_num_threads())
        command = [sys.executable, __file__, "--threads", threads, "--memory-of", arm, str(rounds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        seconds, mebibytes, count = (float(part) for part in done.stdout.split()[-3:])
        whole = whole or seconds
        of_whole = f"{seconds / whole:.2f}" if rows[0] == "all weights" else "–"
        kept = f"{mebibytes:.0f}" if with_memory else "–"
        say(f"| {ARMS[arm]} | {count:,.0f} | {seconds:.3f} | {of_whole} | {kept} |")


if __name__ == "__main__":
    command_with_rows(__doc__, ARMS, report, memory_of, rounds=20)
