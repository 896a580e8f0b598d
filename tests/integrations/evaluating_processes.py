"""What the processes of the distributed evaluations do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from tests.integrations.evaluated import CLASSES, Classifier, Pictures, Segmenter, trainer

from lumora.data import Labels
from lumora.tasks import TASKS

WORLD = 2
LABELS = Labels(tuple(f"class {i}" for i in range(CLASSES)))


def evaluate(rank: int, folder: str, port: int, task: str, count: int) -> None:
    """`Trainer.evaluate` and its self-test on `count` pictures; each process writes down what it was told."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT=str(port), ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    chosen = TASKS[task](LABELS)
    masks = task == "segmentation"
    model, data = Segmenter() if masks else Classifier(), Pictures(count, masks)
    ours = trainer(model, data, chosen.new_metrics(), Path(folder), ddp_backend="gloo")
    assert ours.args.world_size == WORLD
    ours.self_test(chosen, pictures=5)
    Path(folder, f"{rank}.json").write_text(json.dumps(ours.evaluate()), encoding="utf-8")
    dist.destroy_process_group()


def count_apart(rank: int, folder: str, counts: tuple[int, ...]) -> None:
    """Metrics without any `Trainer`: the first process counts some of the batches, the second the others."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    for name, task in TASKS.items():
        for count in counts:
            metrics = task(LABELS).new_metrics()
            for logits, targets in batches(name)[:count] if rank == 0 else batches(name)[count:]:
                metrics.update(logits, targets)
            told = [metrics.compute(), metrics.compute()]
            assert told[0] == told[1]
            written = json.dumps([told[0].overall, told[0].per_class])
            Path(folder, f"{name}-{count}-{rank}.json").write_text(written, encoding="utf-8")
    dist.destroy_process_group()


def batches(task: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(10):
        small = (3, CLASSES, 4, 4) if task == "segmentation" else (3, CLASSES)
        logits = torch.randn(small, generator=generator)
        shape = {"classification": (3,), "multilabel": (3, CLASSES), "segmentation": (3, 9, 9)}[task]
        most = 2 if task == "multilabel" else CLASSES
        made.append((logits, torch.randint(0, most, shape, generator=generator)))
    return made
