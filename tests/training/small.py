"""Trainings that take a second: drawn pictures, a few thousand weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lumora import LoraConfig, get_peft_model
from lumora.data import Labels, Loader, Pictures
from lumora.data.transforms import (
    classification_eval,
    classification_train,
    generator_for,
    segmentation_eval,
    segmentation_train,
)
from lumora.tasks import Classification, Segmentation
from lumora.training.average import Average
from lumora.training.loading import part_of
from lumora.training.loop import Course, Loop, Work
from lumora.training.optimizing import Optimizer, Rates
from lumora.training.processes import Alone, Processes
from lumora.training.stepping import Stepper
from lumora.training.stopping import StopRequest

STATISTICS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SIDE = 16
NAMES = ("red", "green", "blue")


@dataclass(frozen=True)
class Drawn:
    """A picture with one strong colour, in noise; its mask says where the colour is strongest."""

    number: int
    masked: bool = False
    holes: bool = False
    """Whether places count nowhere, as many as the number says."""
    path: Path | None = None

    @property
    def key(self) -> str:
        return f"drawn {self.number}"

    @property
    def target(self) -> int | None:
        return None if self.masked else self.number % len(NAMES)

    def picture(self) -> Tensor:
        noise = torch.randint(0, 160, (3, SIDE, SIDE), generator=generator_for(5, self.number, "noise"))
        noise[self.number % len(NAMES), : SIDE // 2] += 80
        return noise.to(torch.uint8)

    def mask(self) -> Tensor | None:
        if not self.masked:
            return None
        ids = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
        ids[: SIDE // 2] = self.number % (len(NAMES) - 1) + 1
        if self.holes:
            ids[:, : self.number % SIDE] = 255
        return ids


class Sees(nn.Module):
    """Blocks with dropout and a batch norm, to be adapted; a head for pictures or for places."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Conv2d(8, 16, 1)
        self.drop = nn.Dropout(0.2)
        self.classifier = nn.Conv2d(16, len(NAMES), 1) if masked else nn.Linear(16, len(NAMES))

    def forward(self, pixel_values: Tensor) -> Tensor:
        features = self.drop(self.mix(self.norm(self.stem(pixel_values)).relu()).relu())
        return self.classifier(features if self.masked else features.mean((2, 3)))


def small_loop(
    *,
    masked: bool = False,
    adapted: bool = True,
    workers: int = 0,
    course: Course | None = None,
    pictures: int = 20,
    batch_size: int = 4,
    save=lambda state: None,
    listener=None,
    stop: StopRequest | None = None,
    rate: float = 0.01,
    processes: Processes | None = None,
    chance: bool = True,
    drawn: type[Drawn] = Drawn,
    judged: int = 9,
    holes: bool = False,
    weights: tuple[float, ...] | None = None,
    **of_stepper,
) -> Loop:
    """A whole training from nothing, the same one each time; without chance, nothing is dropped."""
    from lumora.training.events import Listener

    processes = processes or Alone()
    torch.manual_seed(0)
    model: nn.Module = Sees(masked)
    model.drop.p *= chance
    if adapted:
        model = get_peft_model(
            model,
            LoraConfig(r=4, target_modules=["stem", "mix"], modules_to_save=["classifier"], lora_dropout=0.1 * chance),
        )
    labels = Labels(NAMES)
    task = Segmentation(labels, dice=0.5) if masked else Classification(labels, class_weights=weights)
    transform = (segmentation_train if masked else classification_train)(SIDE, *STATISTICS)
    as_it_is = (segmentation_eval if masked else classification_eval)(SIDE, *STATISTICS)
    samples = [drawn(i, masked, holes=holes) for i in range(pictures + judged)]
    optimizer = Optimizer(model, ("classifier",), Rates(rate, 2 * rate, 4.0, 0.05))
    stepper = Stepper(model, task, optimizer, torch.device("cpu"), clip=1.0, processes=processes, **of_stepper)
    work = Work(
        task,
        model,
        Loader(
            Pictures(samples[:pictures], transform),
            batch_size,
            workers=workers,
            rank=processes.rank,
            world=processes.world,
        ),
        Loader(Pictures(part_of(samples[pictures:], processes), as_it_is), 4, shuffle=False),
        stepper,
        Average(optimizer.parameters, 0.9),
    )
    return Loop(work, course or Course(3), save, listener or Listener(), stop or StopRequest())


def result(loop: Loop) -> dict[str, Tensor]:
    """Everything that a training comes to: weights, averages, the best, the optimizer's memory."""
    return {name: tensor.clone() for name, tensor in loop.state()[0].items()}
