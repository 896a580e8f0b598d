"""One step of a training: a batch forward and backward in parts that fit into memory, and a change of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lumora.data.transforms import generator_for
from lumora.errors import TrainingError
from lumora.tasks import Task
from lumora.tasks.base import Others
from lumora.tasks.memory import is_about_memory
from lumora.training.gradients import sum_over_processes
from lumora.training.optimizing import Optimizer
from lumora.training.processes import Alone, Processes
from lumora.training.trained import statistics

Precision = str
"""`"fp32"`, `"bf16"` or `"fp16"`."""

_TINY = 1e-12
"""In place of nothing that counts."""
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Stepped:
    """What one step was like."""

    loss: float
    gradient_norm: float
    """Before clipping."""
    changed: bool
    """Whether the weights were changed; not where the loss or a gradient was no finite number."""
    overflowed: bool = False
    """Whether only the scaled gradient was too large for 16 bits; the next one is scaled less."""


@dataclass
class Stepper:
    """Takes steps. What is random in one follows from seed, step and process alone, so no random state is kept."""

    model: nn.Module
    """Called with a batch's pictures."""
    task: Task[Any]
    """What the sum of its losses is to become small of."""
    optimizer: Optimizer
    device: torch.device
    precision: Precision = "fp32"
    clip: float | None = None
    seed: int = 0
    processes: Processes = field(default_factory=Alone)
    """Each gets its part of every batch; together they take one step."""
    micro_batch: int | None = None
    """Pictures that go through the model at a time; halved when memory does not suffice."""
    told: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")  # pyright: ignore[reportPrivateImportUsage]

    def step(self, batch: dict[str, Any], number: int, factor: float) -> Stepped:
        """Learn from one batch, as step `number` of the training, at `factor` of the learning rates."""
        loss = self._gradients_of_all(batch, number)
        self._scaler.unscale_(self.optimizer.torch)
        parameters = self.optimizer.parameters.values()
        norm = float(nn.utils.clip_grad_norm_(parameters, self.clip or math.inf))
        sound = math.isfinite(loss) and math.isfinite(norm)
        if sound:
            self.optimizer.set_factor(factor)
            self._scaler.step(self.optimizer.torch)
        overflowed = not sound and math.isfinite(loss) and self._scaler.get_scale() > 1
        self._scaler.update()
        self.optimizer.forget_gradients()
        return Stepped(loss, norm, sound, overflowed)

    def state(self) -> dict[str, Any]:
        """What the next step depends on, beside weights and optimizer; plain values."""
        return {"micro_batch": self.micro_batch, "scaler": self._scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on as another one would have."""
        self.micro_batch = state["micro_batch"]
        self._scaler.load_state_dict(state["scaler"])

    def _gradients_of_all(self, batch: dict[str, Any], number: int) -> float:
        """Gather the gradients of the mean loss of all processes' parts of the batch; return that loss."""
        count = len(batch["labels"])
        whole = torch.cat([self._weights(batch), torch.tensor([float(count)])])
        self.processes.add([whole])
        while True:
            loss, failed = 0.0, ""
            others = self._others(count, int(whole[-1]))
            try:
                loss = self._gradients(batch, number, whole, others)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_about_memory(error):
                    raise
                failed = error.__class__.__name__  # the error itself holds on to the tensors of the failed attempt
            if failed and others is not None:
                others.keep_up()
            if not self.processes.agree(bool(failed)):
                break
            self._take_smaller_parts(self.processes.highest(count), failed or "in another process")
        if self.processes.world == 1:
            return loss
        parameters = list(self.optimizer.parameters.values())
        return sum_over_processes(self.processes, parameters, statistics(self.model), loss, count)

    def _weights(self, batch: dict[str, Any]) -> Tensor:
        return self.task.weights(batch["labels"]).to("cpu", torch.float64)

    def _others(self, count: int, of_all: int) -> _Others | None:
        """The other processes, if the losses need them and each has its part of the batch in one piece."""
        most = -(-of_all // self.processes.world)
        if self.processes.world == 1 or not self.task.sums or (self.micro_batch or most) < most:
            return None
        return _Others(self.processes, self.task.sums, self.device, count / of_all)

    def _gradients(self, batch: dict[str, Any], number: int, whole: Tensor, others: _Others | None) -> float:
        """Gather the gradients of what this process's part adds to the loss of the whole batch; return that.

        Of the whole batch are given the weights of its losses and, last, the number of pictures.
        """
        self.optimizer.forget_gradients()
        torch.manual_seed(generator_for(self.seed, number, f"step {self.processes.rank}").initial_seed())
        total = 0.0
        for part in _parts(batch, self.micro_batch):
            with self.in_precision():
                outputs = self.model(part["pixel_values"])
                losses = self.task.losses(outputs, part["labels"], others)
                if len(part["labels"]) < int(whole[-1]):
                    losses = losses * (self._weights(part) / whole[:-1].clamp(min=_TINY)).to(losses)
                loss = losses.sum()
                del outputs
            self._scaler.scale(loss).backward()
            total += float(loss.detach())
        return total

    def in_precision(self) -> AbstractContextManager[Any]:
        """Let what the block computes be of the chosen precision."""
        kind = _TYPES.get(self.precision)
        return nullcontext() if kind is None else torch.autocast(self.device.type, dtype=kind)

    def _take_smaller_parts(self, batch_size: int, failed: str) -> None:
        self.optimizer.forget_gradients()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        size = min(self.micro_batch or batch_size, batch_size)
        if size <= 1:
            raise TrainingError(
                f"There is not enough memory for a single picture ({failed}). Take smaller pictures (pictures.size), a "
                "smaller base, or train.grad_checkpointing=true."
            )
        self.micro_batch = (size + 1) // 2
        self.told(
            f"Not enough memory for {size} pictures at a time; going on with {self.micro_batch} at a time. A batch "
            "stays as large as it was."
        )


class _Others(Others):
    """The other processes in one try at a step: each of them is heard once, also of one that fails on the way."""

    def __init__(self, processes: Processes, sums: int, device: torch.device, share: float) -> None:
        super().__init__(self._add_up, share)
        self._processes, self._sums, self._device, self._heard = processes, sums, device, False

    def keep_up(self) -> None:
        """Let the others go on, whose try is in vain, where they wait for what this process has not come to."""
        if not self._heard:
            self._add_up(torch.zeros(self._sums, device=self._device))

    def _add_up(self, sums: Tensor) -> None:
        self._heard = True
        self._processes.add([sums])


def _parts(batch: dict[str, Any], size: int | None) -> Iterator[dict[str, Any]]:
    """A batch in parts of at most `size` pictures."""
    count = len(batch["labels"])
    size = size or count
    for start in range(0, count, size):
        yield {name: values[start : start + size] for name, values in batch.items()}
