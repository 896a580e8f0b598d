"""One step of a training: a batch forward and backward in parts that fit into memory, and a change of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lumora.data.transforms import generator_for
from lumora.errors import TrainingError
from lumora.training.optimizing import Optimizer

Precision = str
"""`"fp32"`, `"bf16"` or `"fp16"`."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Stepped:
    """What one step was like."""

    loss: float
    gradient_norm: float
    """Before clipping."""
    changed: bool
    """Whether the weights were changed; not where the loss or a gradient was no finite number."""


@dataclass
class Stepper:
    """Takes steps. What is random in one follows from seed, step and process alone, so no random state is kept."""

    model: nn.Module
    """Called with a batch's pictures; in several processes the one that averages gradients between them."""
    loss: Callable[[Any, Tensor], Tensor]
    """Of the model's outputs and the targets, the mean over the batch."""
    optimizer: Optimizer
    device: torch.device
    precision: Precision = "fp32"
    clip: float | None = None
    seed: int = 0
    rank: int = 0
    micro_batch: int | None = None
    """Pictures that go through the model at a time; halved when memory does not suffice."""
    told: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")  # pyright: ignore[reportPrivateImportUsage]

    def step(self, batch: dict[str, Any], number: int, factor: float) -> Stepped:
        """Learn from one batch, as step `number` of the training, at `factor` of the learning rates."""
        while True:
            try:
                loss = self._gradients(batch, number)
                break
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_about_memory(error):
                    raise
                failed = error.__class__.__name__  # the error itself holds on to the tensors of the failed attempt
            self._take_smaller_parts(len(batch["labels"]), failed)
        self._scaler.unscale_(self.optimizer.torch)
        parameters = self.optimizer.parameters.values()
        norm = float(nn.utils.clip_grad_norm_(parameters, self.clip or math.inf))
        sound = math.isfinite(loss) and math.isfinite(norm)
        if sound:
            self.optimizer.set_factor(factor)
            self._scaler.step(self.optimizer.torch)
        self._scaler.update()
        self.optimizer.forget_gradients()
        return Stepped(loss, norm, sound)

    def state(self) -> dict[str, Any]:
        """What the next step depends on, beside weights and optimizer; plain values."""
        return {"micro_batch": self.micro_batch, "scaler": self._scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on as another one would have."""
        self.micro_batch = state["micro_batch"]
        self._scaler.load_state_dict(state["scaler"])

    def _gradients(self, batch: dict[str, Any], number: int) -> float:
        """Gather the gradients of the batch's mean loss; return that loss."""
        self.optimizer.forget_gradients()
        torch.manual_seed(generator_for(self.seed, number, f"step {self.rank}").initial_seed())
        total = 0.0
        for part, share, is_last in _parts(batch, self.micro_batch):
            with nullcontext() if is_last else self._alone(), self.in_precision():
                outputs = self.model(part["pixel_values"])
                loss = self.loss(outputs, part["labels"]) * share
                del outputs
            with nullcontext() if is_last else self._alone():
                self._scaler.scale(loss).backward()
            total += float(loss.detach())
        return total

    def in_precision(self) -> AbstractContextManager[Any]:
        """Let what the block computes be of the chosen precision."""
        kind = _TYPES.get(self.precision)
        return nullcontext() if kind is None else torch.autocast(self.device.type, dtype=kind)

    def _alone(self) -> AbstractContextManager[Any]:
        """Gradients of a part stay in this process until the last part's are averaged with them."""
        no_sync: Any = getattr(self.model, "no_sync", nullcontext)
        return no_sync()

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


def _parts(batch: dict[str, Any], size: int | None) -> Iterator[tuple[dict[str, Any], float, bool]]:
    """A batch in parts of at most `size` pictures, each one's share of the batch, and whether it is the last."""
    count = len(batch["labels"])
    size = size or count
    for start in range(0, count, size):
        part = {name: values[start : start + size] for name, values in batch.items()}
        yield part, len(part["labels"]) / count, start + size >= count


def _is_about_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, on an accelerator or on the CPU, whose allocator has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
