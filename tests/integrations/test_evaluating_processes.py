"""Two real processes are told what one is told."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch.multiprocessing as mp
from tests.integrations import evaluating_processes as processes
from tests.integrations.evaluated import Classifier, Pictures, Segmenter, by_hand

from lumora.tasks import TASKS

pytestmark = pytest.mark.slow


def told_to_both(folder: Path, stem: str):
    return [json.loads(Path(folder, f"{stem}{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def test_compute__adds_the_counts_of_all_processes_to_the_last_bit(tmp_path):
    counts = (0, 4)  # of 10 batches, those of the first process: none, some
    mp.start_processes(processes.count_apart, args=(str(tmp_path), counts), nprocs=2, start_method="spawn")
    for name, task in TASKS.items():
        metrics = task(processes.LABELS).new_metrics()
        for logits, targets in processes.batches(name):
            metrics.update(logits, targets)
        alone = metrics.compute()
        for count in counts:
            assert told_to_both(tmp_path, f"{name}-{count}-") == [[alone.overall, alone.per_class]] * 2


# 8 pictures are a full round of both processes; with others, the last round is filled up with repeated ones.
@pytest.mark.parametrize(("task", "count"), [("classification", 21), ("segmentation", 8), ("segmentation", 9)])
def test_evaluate__in_two_processes_counts_each_picture_once(tmp_path, task, count):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (str(tmp_path), port, task, count)
    mp.start_processes(processes.evaluate, args=arguments, nprocs=2, start_method="spawn")
    masks = task == "segmentation"
    metrics = TASKS[task](processes.LABELS).new_metrics()
    alone = by_hand(Segmenter() if masks else Classifier(), Pictures(count, masks), metrics)
    for told in told_to_both(tmp_path, ""):
        assert {name: told[f"eval_{name}"] for name in alone} == pytest.approx(dict(alone), abs=1e-6)
