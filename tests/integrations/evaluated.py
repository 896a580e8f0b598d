"""Small things to evaluate: a model, pictures with labels. Imports little, since processes import it anew."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

CLASSES = 7


class Classifier(nn.Module):
    """Classifies by a fixed projection of the pixels."""

    main_input_name = "pixel_values"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(pixel_values.flatten(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits} if labels is not None else {}


class Segmenter(nn.Module):
    """Says classes at half the pictures' size."""

    main_input_name = "pixel_values"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, CLASSES, 2, stride=2)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(pixel_values)
        return {"loss": logits.mean(), "logits": logits}


class Pictures(Dataset[dict[str, Tensor]]):
    def __init__(self, count: int, masks: bool = False) -> None:
        self.count, self.masks = count, masks

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(i)
        if not self.masks:
            pixels = torch.randn(3, 2, 2, generator=generator)
            return {"pixel_values": pixels, "labels": torch.randint(0, CLASSES, (), generator=generator)}
        labels = torch.randint(0, CLASSES, (8, 8), generator=generator)
        labels[0] = 255
        return {"pixel_values": torch.randn(3, 8, 8, generator=generator), "labels": labels}


def trainer(model: nn.Module, data: Any, metrics: Any, folder: Path, **arguments: Any) -> Any:
    from lumora.integrations.transformers import Trainer, TrainingArguments

    options = {"per_device_eval_batch_size": 4, "report_to": "none", "use_cpu": True, "label_names": ["labels"]}
    settings = TrainingArguments(str(folder), **{**options, **arguments})
    return Trainer(model, settings, eval_dataset=data, compute_metrics=metrics)


def by_hand(model: nn.Module, data: Pictures, metrics: Any) -> Any:
    """One pass in one process, a picture at a time."""
    with torch.no_grad():
        for i in range(len(data)):
            item = data[i]
            outputs = model(item["pixel_values"][None], item["labels"][None])
            metrics.update(SimpleNamespace(**outputs).logits, item["labels"][None])
    return metrics.compute()
