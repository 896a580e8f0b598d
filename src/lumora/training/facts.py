"""What has to be known of data, base and machine before a recipe's gaps can be filled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lumora.data.sample import TaskName


@dataclass(frozen=True)
class BaseFacts:
    """What has to be known of a base."""

    name: str
    size: tuple[int, int]
    """Height and width of the pictures of its preprocessing."""
    parameters: int
    usual_targets: bool = False
    """Whether the layers that are usually adapted in its architecture are known."""
    multi_scale: bool = False
    """Whether it gives maps of several strides, as convolutional networks do: such take pictures of any size."""


@dataclass(frozen=True)
class Machine:
    """What has to be known of a machine."""

    cores: int
    memory: int
    """Bytes of main memory that a training may count on."""
    device: Literal["cpu", "cuda"] = "cpu"
    device_memory: int | None = None
    """Bytes of the accelerator's own memory."""
    bf16: bool = False
    """Whether it computes with bf16 without loss of time."""
    disk: int = 0
    """Free bytes where decoded pictures would be kept."""
    processes: int = 1
    """How many that train together share the cores and the main memory."""

    @property
    def for_training(self) -> int:
        """Bytes in which model, gradients and pictures of one process have to fit."""
        return self.memory // self.processes if self.device_memory is None else self.device_memory


@dataclass(frozen=True)
class Facts:
    """What has to be known of data, base and machine."""

    task: TaskName
    pictures_train: int
    pictures_validation: int
    class_names: tuple[str, ...]
    picture_size: tuple[int, int]
    """Height and width of a typical picture."""
    base: BaseFacts
    machine: Machine
    class_counts: tuple[int, ...] = field(default=())
    """Pictures for training of each class; empty where that is not counted."""

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return len(self.class_names)

    @property
    def segments(self) -> bool:
        """Whether places get labels, not pictures."""
        return self.task == "segmentation"
