"""Evaluate some pictures of 512 × 512 with 150 classes.

    python tests/integrations/peak.py PICTURES FOLDER

The data are made on demand, so whatever grows with their number is the evaluation's.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from lumora.data import Labels
from lumora.integrations.transformers import Trainer, TrainingArguments
from lumora.tasks import Segmentation

CLASSES, SIZE = 150, 512


class Noise(Dataset[dict[str, Tensor]]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        labels = torch.full((SIZE, SIZE), i % CLASSES)
        return {"pixel_values": torch.full((3, SIZE, SIZE), i / self.count), "labels": labels}


def main(count: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=16,
        mlp_ratios=[1, 1, 1, 1], num_labels=CLASSES,
    )  # fmt: skip
    arguments = TrainingArguments(
        folder, per_device_eval_batch_size=2, report_to="none", use_cpu=True, disable_tqdm=True
    )
    task = Segmentation(Labels(tuple(f"class {i}" for i in range(CLASSES))))
    trainer = Trainer(
        SegformerForSemanticSegmentation(config),
        arguments,
        eval_dataset=Noise(count),
        compute_metrics=task.new_metrics(),
        compute_loss_func=lambda outputs, labels, num_items_in_batch: task.loss(outputs, labels),
    )
    assert "eval_mean_iou" in trainer.evaluate()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
